"""`featureflow dead-letters list` and `featureflow dead-letters replay`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show, show_json, table
from featureflow_cli.errors import NotFound, UsageError, did_you_mean
from featureflow_cli.times import format_timestamp, parse_duration

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow_cli.compute.views import Source as SourceSpec
    from featureflow_cli.evaluate.project import Project
    from featureflow_cli.offline.letters import DeadLetters

Source = Annotated[str | None, typer.Option("--source", help="Only those of this source.")]
Reason = Annotated[
    str | None,
    typer.Option("--reason", help="Only those refused for it: undecodable, wrong_type, null, future."),
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="DURATION", help="Only those of the last 15m, 24h, 7d.")
]


def list_letters(
    ctx: typer.Context,
    source: Source = None,
    reason: Reason = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest last.")] = 50,
    as_json: Annotated[
        bool, typer.Option("--json", help="All of each letter, payload included, as JSON.")
    ] = False,
) -> None:
    """Events that were refused, and why; newest last.

    Example: featureflow dead-letters list --reason wrong_type --since 24h
    """
    project = invocation(ctx).project()
    wanted, held = _wanted(project, source, reason, since), _held(project)
    shown = _letters(project, held.read(*wanted, newest=limit))
    if as_json:
        show_json(
            [
                {
                    **letter,
                    "recorded_at": _moment(letter["recorded_at"]),
                    "lettered_at": _moment(letter["lettered_at"]),
                }
                for letter in shown
            ]
        )
        return
    if not shown:
        say("No dead letters.")
        return
    rows = [
        (
            letter["source"],
            f"{letter['partition']}:{letter['offset']}",
            letter["reason"],
            "yes" if letter["replayed"] else "no",
            _moment(letter["lettered_at"])[:19],
            letter["detail"],
        )
        for letter in shown
    ]
    show(table(["SOURCE", "POSITION", "REASON", "REPLAYED", "AT", "DETAIL"], rows))
    counts = held.counts("reason", *wanted)
    by_reason = ", ".join(f"{number:,} {reason}" for reason, number in sorted(counts.items()))
    say(f"{sum(counts.values()):,} letters ({by_reason}); {len(shown):,} shown")


def replay(
    ctx: typer.Context,
    source: Source = None,
    reason: Reason = None,
    since: Since = None,
    position: Annotated[
        list[str] | None,
        typer.Option(
            "--position", metavar="PARTITION:OFFSET", help="Only this one; may be given several times."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Give refused events another try, as new events: `stream` takes them up, now or when it next runs.

    Each letter is replayed once; what is refused again is a new letter, which may be replayed in turn.

    Example: featureflow dead-letters replay --source user_events --reason wrong_type
    """
    project = invocation(ctx).project()
    found = _held(project).positions(*_wanted(project, source, reason, since))
    done = _replayed(project, {name for name, _, _ in found})
    by_source: dict[str, list[tuple[int, int]]] = {}
    if missing := set(position or ()) - {f"{partition}:{offset}" for _, partition, offset in found}:
        what = f"there is no such dead letter: {', '.join(sorted(missing))}"
        raise NotFound(what, hint="featureflow dead-letters list shows their positions, as PARTITION:OFFSET")
    for name, partition, offset in found:
        is_asked = not position or f"{partition}:{offset}" in position
        if not is_asked or (name, partition, offset) in done or name not in project.repo.sources:
            continue
        if not project.repo.sources[name].streamed:
            what = f"source '{name}' is a table that others keep: it has no events of its own"
            raise UsageError(what, hint="mend the table's files; new ones are read by themselves")
        by_source.setdefault(name, []).append((partition, offset))
    listed = {
        name: len(project.registry.list_replays(name, positions, project.clock()))
        for name, positions in by_source.items()
    }
    if as_json:
        show_json({"replayed": listed})
    elif not listed:
        say("No dead letters to replay.")
    else:
        for name, number in listed.items():
            show(f"{name}: {number:,} letters will be replayed")
        for name, positions in by_source.items():
            _say_what_history_is(project.repo.sources[name], positions)
        say("Run: featureflow stream --once   (a stream that is running takes them up by itself)")


def _say_what_history_is(source: "SourceSpec", positions: list[tuple[int, int]]) -> None:
    """Letters of a history become events of the stream: before `until` these are skipped (design.md 4)."""
    from featureflow_cli.evaluate.tables import HISTORY

    number = sum(partition == HISTORY for partition, _ in positions)
    if number and source.until_us is not None:
        until = format_timestamp(source.until_us)
        say(
            f"{number:,} of them are from the history (batch) of '{source.name}': as events of the stream those"
            f" before its `until`, {until}, are skipped; once the definitions fit them, the history is read anew"
        )


def _held(project: "Project") -> "DeadLetters":
    from featureflow_cli.offline.letters import DeadLetters

    return DeadLetters(project.letters_place)


def _wanted(
    project: "Project", source: str | None, reason: str | None, since: str | None
) -> tuple[str | None, str | None, int | None]:
    """Source, reason and first moment that letters are asked for by; NotFound or UsageError where there is none."""
    from featureflow_cli.sources.letters import Reason

    sources = project.repo.sources
    if source is not None and source not in sources:
        what = f"there is no source '{source}'"
        raise NotFound(what, hint=did_you_mean(source, sources) or f"one of: {', '.join(sources)}")
    reasons = [each.value for each in Reason]
    if reason is not None and reason not in reasons:
        what = f"'{reason}' is no reason"
        raise UsageError(what, hint=did_you_mean(reason, reasons) or f"one of: {', '.join(reasons)}")
    return source, reason, _since_us(project, since)


def _letters(project: "Project", found: "pa.Table") -> list[dict[str, Any]]:
    """The letters as JSON would have them, in order, with `replayed`; moments in microseconds."""
    for name in ("lettered_at", "recorded_at"):
        found = found.set_column(found.column_names.index(name), name, found.column(name).cast("int64"))
    done = _replayed(project, set(found.column("source").to_pylist()))
    return [
        {
            **letter,
            "payload": letter["payload"].decode(errors="replace"),
            "replayed": (letter["source"], letter["partition"], letter["offset"]) in done,
        }
        for letter in found.to_pylist()
    ]


def _replayed(project: "Project", sources: set[str]) -> set[tuple[str, int, int]]:
    """Positions of letters that were asked to be replayed."""
    return {
        (name, replay.partition, replay.offset)
        for name in sources
        for replay in project.registry.replays(name)
    }


def _since_us(project: "Project", since: str | None) -> int | None:
    if since is None:
        return None
    try:
        return project.clock() - parse_duration(since)
    except ValueError as err:
        raise UsageError(str(err), at="--since", hint="write 15m, 24h or 7d") from err


def _moment(moment_us: int) -> str:
    return format_timestamp(moment_us)
