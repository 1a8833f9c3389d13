"""`featureflow check-skew`."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from featureflow_cli.cli.build_dataset import chosen_service
from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show, show_json, table
from featureflow_cli.errors import CheckFailed, NotFound, UsageError, did_you_mean

if TYPE_CHECKING:
    from featureflow_cli.skew.report import ConsistencyReport


def check_skew(
    ctx: typer.Context,
    entity: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this entity; may be repeated.")
    ] = None,
    service: Annotated[str | None, typer.Option(help="Only the features of this service.")] = None,
    features: Annotated[str | None, typer.Option(help="Only these: view:feature,view:*,…")] = None,
    sample: Annotated[int, typer.Option(min=1, help="Entities to compare, of each kind.")] = 500,
    max_relative: Annotated[
        float, typer.Option(min=0, help="A value differs where it is off by more than this share of it.")
    ] = 0.05,
    max_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="A feature is flagged where more entities than this share differ."),
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Which sample: the same seed takes the same entities.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The reports as JSON.")] = False,
) -> None:
    """Compare what is served now with what training computes for the same moments.

    Exits 5 where a feature is flagged, and where there was nothing to compare.

    Example: featureflow check-skew --entity user --sample 500
    """
    from featureflow_cli.skew.check import check
    from featureflow_cli.skew.comparing import Thresholds

    project = invocation(ctx).project()
    if drift := project.drift():
        say(drift)
    for name in entity or []:
        if name not in project.repo.entities:
            message = f"no entity is named '{name}'"
            raise NotFound(message, hint=did_you_mean(name, project.repo.entities), at="--entity")
    asked = chosen_service(project.repo, service, features) if service or features else None
    thresholds = Thresholds(max_relative, max_share)
    reports = check(
        project, service=asked, entities=entity or [], sample=sample, thresholds=thresholds, seed=seed
    )
    if not reports:
        message = "none of the features asked for is of such an entity"
        raise UsageError(message, hint="leave --entity out, or ask for other features")
    if as_json:
        show_json(
            [
                {"passed": each.passed, "flagged_features": each.flagged} | dataclasses.asdict(each)
                for each in reports
            ]
        )
    else:
        for report in reports:
            _show(report)
    flagged = [name for report in reports for name in report.flagged]
    if flagged:
        message = f"online and offline disagree: {', '.join(flagged)}"
        raise CheckFailed(message, hint=_advice(reports))
    unchecked = [report for report in reports if not report.checked]
    if unchecked:
        message = f"nothing was compared of {', '.join(report.entity for report in unchecked)}"
        raise CheckFailed(message, hint="; ".join(dict.fromkeys(map(_why_nothing, unchecked))))


def _show(report: "ConsistencyReport") -> None:
    rows = [
        (
            each.feature,
            each.different,
            each.stale,
            each.definition,
            f"{each.largest:.1%}" if each.different else "-",
            f"{each.example}: {_text(each.online)} / {_text(each.offline)}" if each.different else "",
            "FLAGGED" if each.flagged else "",
        )
        for each in report.features
    ]
    heads = ["FEATURE", "DIFFER", "STALE", "DEFINITION", "LARGEST", "EXAMPLE (ONLINE / OFFLINE)", ""]
    if rows:
        show(table(heads, rows))
    show(report.summary())
    if report.lagging:
        say(
            f"behind the log: {', '.join(report.lagging)} (`featureflow stream` has not applied all of it yet)"
        )
    if report.unlogged:
        say(f"left out: {report.unlogged} entities with events that are not in the offline log yet")


def _text(value: object) -> str:
    return "null" if value is None else str(value)


def _why_nothing(report: "ConsistencyReport") -> str:
    """Why an entity's check had nothing to compare, and what to do."""
    if report.unlogged:
        return (
            f"the states of all {report.unlogged} hold events that the offline log does not: put a lost log back,"
            " or let `featureflow stream` fill it"
        )
    if report.lagging:
        return (
            f"no {report.entity} is held online, though the log holds events: run `featureflow stream --once`"
        )
    return (
        f"no {report.entity} is held online, and its states know all of the log: nothing was streamed yet, or all"
        " has expired; --entity checks the others alone"
    )


def _advice(reports: "list[ConsistencyReport]") -> str:
    if any(each.definition for report in reports for each in report.features if each.flagged):
        return "the same events give another answer: a state is damaged, or was built by another definition"
    return "the states lag behind the log: is `featureflow stream` running?"
