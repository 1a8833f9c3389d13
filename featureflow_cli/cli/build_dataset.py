"""`featureflow build-dataset`."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show, show_json
from featureflow_cli.errors import UsageError

if TYPE_CHECKING:
    from featureflow_cli.compute.views import Repo, Service


def build_dataset(
    ctx: typer.Context,
    labels: Annotated[
        Path,
        typer.Option(
            help="Rows to build for: join keys, `timestamp`, any other columns (.parquet, .csv, .ndjson)."
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="Where to write: FILE.parquet or FILE.csv.")] = None,
    service: Annotated[str | None, typer.Option(help="The feature service to take.")] = None,
    features: Annotated[
        str | None, typer.Option(help="Or features: view:feature,view:*,on_demand_feature,…")
    ] = None,
    cold_start: Annotated[
        str, typer.Option(help="Rows whose required entities are not known yet: drop | keep (with nulls).")
    ] = "drop",
    timestamp_field: Annotated[
        str | None, typer.Option(help="The labels' moment (default: timestamp, else event_timestamp).")
    ] = None,
    statuses: Annotated[bool, typer.Option("--statuses", help="Add a view__status column per view.")] = False,
    audit: Annotated[bool, typer.Option("--audit/--no-audit", help="Look for leakage afterwards.")] = True,
    draft: Annotated[
        bool, typer.Option("--draft", help="Use the definitions as written, applied or not.")
    ] = False,
    show_sql: Annotated[
        bool, typer.Option("--show-sql", help="Print the SQL that says the same; build nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Build a training set: features strictly before each label's moment, audited for leakage.

    Example: featureflow build-dataset --labels labels.parquet --service ranking_v1 --output train.parquet
    """
    from featureflow_cli.dataset.build import build
    from featureflow_cli.dataset.labels import read_labels
    from featureflow_cli.dataset.writing import check_writable, write

    if cold_start not in {"drop", "keep"}:
        message = f"--cold-start is drop or keep, not '{cold_start}'"
        raise UsageError(message)
    invoked = invocation(ctx)
    project = invoked.project()
    repo = project.written_repo if draft else project.repo
    if not draft and (drift := project.drift()):
        say(drift)
    asked = chosen_service(repo, service, features)
    if show_sql:
        from featureflow_cli.compute.sql_features import service_sql

        show(service_sql(asked, drop_cold=cold_start == "drop"))
        return
    if output is None:
        message = "--output is missing: where should the dataset be written?"
        raise UsageError(message, hint="--output train.parquet")
    output = invoked.path(output)
    check_writable(output)
    if output.resolve() == invoked.path(labels).resolve():
        message = f"--output names the labels themselves, {output}: they would be overwritten"
        raise UsageError(message, hint="write the dataset to another file")
    read = read_labels(invoked.path(labels), timestamp_field)
    if len(read.t_us) > 100_000 and sys.stderr.isatty():
        say(f"building {len(asked.outputs)} features for {len(read.t_us):,} labels …")
    dataset = build(
        project,
        asked,
        read,
        keep_cold=cold_start == "keep",
        statuses=statuses,
        audited=audit,
        registry_version=None if draft else project.applied.version,
    )
    write(dataset.table, output)
    if as_json:
        show_json({"output": str(output), "line": dataset.report.line} | dataclasses.asdict(dataset.report))
        return
    for name, reasons in dataset.report.refused.items():
        counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        say(f"events of the batch files of '{name}' were refused: {counts} (featureflow dead-letters list)")
    for entity, count in dataset.report.cold.items():
        if count:
            say(f"dropped {count:,} rows whose {entity} was not known yet (--cold-start keep keeps them)")
    for name, reasons in dataset.report.reasons.items():
        say(
            f"{name} is null in "
            + ", ".join(f"{count:,} rows: {reason}" for reason, count in reasons.items())
        )
    say(f"wrote {dataset.table.num_rows:,} rows x {dataset.table.num_columns} columns to {output}")
    show(dataset.report.line)


def chosen_service(repo: "Repo", service: str | None, features: str | None) -> "Service":
    """The service of that name, or what the comma-separated `features` ask for; one of them must be given."""
    from featureflow_cli.compute.selecting import named, select

    if (service is None) == (features is None):
        message = "name one --service or some --features"
        raise UsageError(
            message, hint="--service ranking_v1, or --features user_activity:*,item_activity:view_count_1h"
        )
    if service is not None:
        return named(repo, service)
    assert features is not None
    return select(repo, [each.strip() for each in features.split(",") if each.strip()])
