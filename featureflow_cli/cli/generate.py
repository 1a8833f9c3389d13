"""`featureflow generate`: synthetic shop events, and labels for them."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from featureflow_cli.cli.invocation import Invocation, invocation
from featureflow_cli.cli.output import StatusLine, show, show_json
from featureflow_cli.errors import UsageError
from featureflow_cli.generate.files import Format
from featureflow_cli.times import SECOND_US, parse_duration, parse_timestamp

if TYPE_CHECKING:
    from featureflow_cli.generate.shop import Scale


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
    to: Annotated[
        Literal["files", "kafka"], typer.Option(help="Files, or the topic of a source of this project.")
    ] = "files",
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="To Kafka: which source, where there are several.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="To Kafka: the field whose events share a partition, or `none`; the first view's join key by default.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="N", help="To Kafka: events a second; as fast as it goes by default."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="To Kafka, with --rate: events happen as they are sent.")
    ] = False,
    labels_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where labels go; data/labels.parquet by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and --end give the same events.")] = 42,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Write synthetic shop events: page views, item views, carts, purchases, searches and ratings.

    They arrive as real ones do: out of order, a few late, a few twice. Files are named in order of arrival; Kafka
    gets the same events in the same order.

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
    if to == "kafka":
        labels_to = labels_out or out.parent / "labels.parquet"
        _to_kafka(invoked, scale, source, key, rate, live, labels, invoked.path(labels_to), as_json)
        return
    said = {"--source": source, "--key": key, "--rate": rate, "--live": live or None}
    if idle := [option for option, value in said.items() if value is not None]:
        message = f"{idle[0]} is for events that go to Kafka"
        raise UsageError(message, hint="say --to kafka")
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


def _to_kafka(
    invoked: Invocation,
    scale: "Scale",
    wanted: str | None,
    key: str | None,
    rate: float | None,
    live: bool,
    labels: int,
    labels_out: Path,
    as_json: bool,
) -> None:
    from featureflow_cli.evaluate.topics import admin, streamed
    from featureflow_cli.generate import kafka as sending
    from featureflow_cli.generate.files import write_labels
    from featureflow_cli.sources.kafka_producer import Sender

    project = invoked.project()
    repo = project.written_repo
    topics = streamed(project, repo)
    source = sending.choose(list(topics), repo, wanted)
    kafka = topics[source.name]
    admin(project, kafka).require(kafka.topic)  # a producer would wait for a topic that is not there
    key = sending.natural_key(repo, source) if key is None else None if key == "none" else key
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    line = StatusLine()
    try:
        made = sending.generate(
            scale,
            Sender(kafka, project.environ, stop.is_set),
            key=key,
            rate=rate,
            live=live,
            clock=invoked.clock,
            stop=stop,
            show=lambda sent, of: line.show(f"{sent:,} of {of:,} events ({sent / of:.0%})"),
        )
    finally:
        line.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
    if labels:
        write_labels(made.events, labels, scale.seed, labels_out)
    a_second = made.sent / max(made.elapsed_s, 1e-6)
    if as_json:
        show_json(
            {
                "source": source.name,
                "topic": kafka.topic,
                "key": key,
                "events": made.sent - made.repeated,
                "repeated": made.repeated,
                "late": made.late,
                "elapsed_s": made.elapsed_s,
                "events_per_s": a_second,
                "labels": str(labels_out) if labels else None,
                "label_rows": labels,
            }
        )
        return
    distinct = made.sent - made.repeated
    show(f"{distinct:,} events, {made.repeated:,} of them delivered twice, {made.late:,} late")
    keyed = f" by {key}" if key else ""
    show(f"  topic {kafka.topic}{keyed}: {made.elapsed_s:,.1f} s, {a_second:,.0f} events/s")
    if labels:
        show(f"  {labels_out}: {labels:,} labels")


def _said(option: str, read: Callable[[str], int], text: str) -> int:
    try:
        return read(text)
    except ValueError as err:
        message = f"{option}: {err}"
        raise UsageError(message) from err
