"""`featureflow get`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from featureflow_cli.cli.build_dataset import chosen_service
from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show, show_json, table
from featureflow_cli.errors import UsageError

if TYPE_CHECKING:
    from featureflow_cli.compute.views import Service
    from featureflow_cli.evaluate.project import Project
    from featureflow_cli.evaluate.vector import Vector


def get(
    ctx: typer.Context,
    entity: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="A join key; once for each.", show_default=False)
    ],
    service: Annotated[str | None, typer.Option(help="The feature service to read.")] = None,
    features: Annotated[
        str | None, typer.Option(help="Or features: view:feature,view:*,on_demand_feature,…")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIMESTAMP", help="Answer for this moment from the offline log (default: now, online)."
        ),
    ] = None,
    request: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="A request column of an on-demand feature."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The body that the server answers.")] = False,
) -> None:
    """Read one feature vector: now from the online store, or as it was at a past moment.

    Example: featureflow get --service ranking_v1 --entity user_id=42 --entity item_id=7
    """
    from featureflow_cli.evaluate.spelling import body, spellings

    project = invocation(ctx).project()
    if drift := project.drift():
        say(drift)
    asked = chosen_service(project.repo, service, features)
    row = {**pairs(request or [], "--request"), **pairs(entity, "--entity")}
    vector = _now(project, asked, row) if at is None else _then(project, asked, row, at)
    answer = {**body(vector, spellings(asked)), "registry_version": project.applied.version}
    if as_json:
        show_json(answer)
        return
    show(table(["FEATURE", "VALUE"], [(name, _text(value)) for name, value in _items(answer["features"])]))
    show("")
    rows = [
        (view, status, None if (age := vector.age_us.get(view)) is None else _age(age))
        for view, status in vector.status.items()
    ]
    show(table(["VIEW", "STATUS", "AGE"], rows))
    for name, reason in vector.reasons.items():
        say(f"{name} has no answer: {reason}")
    say(f"as of {answer['as_of']}, {'from the online store' if at is None else 'from the offline log'}")


def pairs(words: Sequence[str], option: str) -> dict[str, object]:
    """`KEY=VALUE` words as a mapping; UsageError for any other word."""
    found: dict[str, object] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            message = f"{option} takes KEY=VALUE, not '{word}'"
            raise UsageError(message, hint=f"{option} user_id=42")
        found[name] = value
    return found


def _now(project: "Project", service: "Service", row: dict[str, object]) -> "Vector":
    from featureflow_cli.evaluate.vector import Reader

    (vector,) = Reader(project.online, service, project.serving()).read([row], project.clock())
    return vector


def _then(project: "Project", service: "Service", row: dict[str, object], at: str) -> "Vector":
    import numpy as np

    from featureflow_cli.evaluate.asking import expected_of, typed_row
    from featureflow_cli.evaluate.past import vectors_at
    from featureflow_cli.times import parse_timestamp

    try:
        moment_us = parse_timestamp(at)
    except ValueError as err:
        message = f"--at: {err}"
        raise UsageError(message, hint="--at 2026-01-01T10:00:00Z") from err
    typed = typed_row(expected_of(service), row)
    (vector,) = vectors_at(project, service, [typed], np.array([moment_us], np.int64))
    return vector


def _items(features: object) -> list[tuple[str, object]]:
    assert isinstance(features, dict)
    return list(features.items())


def _text(value: object) -> object:
    return (
        ", ".join("-" if each is None else str(each) for each in value) if isinstance(value, list) else value
    )


def _age(age_us: int) -> str:
    """Two units at most: `3d 4h`, `12m 5s`, `0.812s`."""
    seconds, fraction_us = divmod(age_us, 1_000_000)
    if seconds < 60:
        return f"{seconds}.{fraction_us // 1_000:03}s"
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for unit, size in units:
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
