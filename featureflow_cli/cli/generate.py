"""`featureflow generate`: synthetic shop events, and labels for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import show, show_json
from featureflow_cli.errors import UsageError
from featureflow_cli.generate.files import Format
from featureflow_cli.times import SECOND_US, parse_duration, parse_timestamp


def generate(
    ctx: typer.Context,
    events: Annotated[int, typer.Option(help="Distinct events; second deliveries come on top.")] = 100_000,
    users: Annotated[int, typer.Option(help="How many users shop.")] = 2_000,
    items: Annotated[int, typer.Option(help="How many items are sold.")] = 500,
    span: Annotated[str, typer.Option(help="From the first event to the last: 90m, 24h, 7d.")] = "7d",
    end: Annotated[
        str | None, typer.Option(metavar="TIMESTAMP", help="Where the span ends; now by default.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the event files go.")] = Path("data/events"),
    format: Annotated[Format, typer.Option(help="How they are written.")] = "parquet",
    files: Annotated[int, typer.Option(help="How many files, in order of arrival.")] = 8,
    late: Annotated[float, typer.Option(help="Share of events that arrive minutes to hours late.")] = 0.02,
    duplicates: Annotated[float, typer.Option(help="Share of events that are delivered twice.")] = 0.01,
    labels: Annotated[
        int, typer.Option(help="Label rows: item views, and whether the item was bought in that session.")
    ] = 0,
    labels_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where labels go; data/labels.parquet by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and --end give the same events.")] = 42,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Write synthetic shop events: page views, item views, carts, purchases, searches and ratings.

    They arrive as real ones do: out of order, a few late, a few twice. Files are named in order of arrival.

    Example: featureflow generate --events 200000 --labels 5000
    """
    from featureflow_cli.generate import files as writing
    from featureflow_cli.generate.shop import Scale

    invoked = invocation(ctx)
    scale = Scale(
        events=events,
        users=users,
        items=items,
        span_us=_said("--span", parse_duration, span),
        end_us=(
            invoked.clock() // SECOND_US * SECOND_US if end is None else _said("--end", parse_timestamp, end)
        ),
        late=late,
        duplicates=duplicates,
        seed=seed,
    )
    made = writing.generate(
        scale,
        invoked.path(out),
        format=format,
        files=files,
        labels=labels,
        labels_out=None if labels_out is None else invoked.path(labels_out),
    )
    if as_json:
        show_json(
            {
                "files": [str(path) for path in made.files],
                "events": made.events,
                "repeated": made.repeated,
                "late": made.late,
                "labels": made.labels and str(made.labels),
                "label_rows": made.label_rows,
            }
        )
        return
    show(f"{made.events:,} events, {made.repeated:,} of them delivered twice, {made.late:,} late")
    show(f"  {made.files[0].parent}: {len(made.files)} {format} files")
    if made.labels:
        show(f"  {made.labels}: {made.label_rows:,} labels")


def _said(option: str, read: Callable[[str], int], text: str) -> int:
    try:
        return read(text)
    except ValueError as err:
        message = f"{option}: {err}"
        raise UsageError(message) from err
