"""`featureflow stream`."""

import gc
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import is_terminal, say, show, show_json, style
from featureflow_cli.errors import UsageError
from featureflow_cli.times import SECOND_US, format_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from featureflow_cli.errors import StoreUnavailable
    from featureflow_cli.evaluate.project import Project
    from featureflow_cli.stream.progress import Progress, SourceReport, StreamReport

SHOWN_EVERY_S = 1.0
LOGGED_EVERY_S = 10.0
"""How often progress is told to a terminal, and to a file."""
ALLOCATOR = ("ARROW_DEFAULT_MEMORY_POOL", "system")
"""Arrow's choice, which it makes as it is loaded. By default it keeps what one thread took and another gave back:
250 MB beside a stream's 700."""


def stream(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Apply what is there, then exit.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that share the partitions of Kafka topics.")
    ] = 1,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535, help="Answer Prometheus at this port's /metrics; worker n at port + n - 1."
        ),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="The address that /metrics listens on.")] = "127.0.0.1",
    skip_lost: Annotated[
        bool, typer.Option("--skip-lost", help="Go on where Kafka dropped events before they were streamed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Apply new events to the online store and the offline log, and load tables that others keep.

    Without --once it follows the sources until it is stopped (Ctrl-C, SIGTERM): then it finishes its batch,
    commits and exits. Killed at any moment it loses and doubles nothing: start it again. More workers, here or on
    other machines, share the partitions of a Kafka topic; all of them may write every entity.

    Example: featureflow stream --once
    """
    os.environ.setdefault(*ALLOCATOR)
    from featureflow_cli.stream.fleet import is_of_fleet

    project = invocation(ctx).project()
    drift = None if is_of_fleet(project.environ) else project.drift()
    if drift is not None:
        say(f"note: {drift}")
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        if workers == 1:
            report = _run(project, stop, once, skip_lost, metrics_port, metrics_host)
        else:
            options = [*(["--once"] if once else []), *(["--skip-lost"] if skip_lost else [])]
            report = _run_fleet(ctx, stop, workers, options, metrics_port, metrics_host)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if as_json:
        show_json({**asdict(report), "elapsed_s": report.elapsed_us / SECOND_US})
        return
    for line in _lines(report):
        show(line)


def _run(
    project: "Project", stop: threading.Event, once: bool, skip_lost: bool, port: int | None, host: str
) -> "StreamReport":
    from featureflow_cli.sources.reader_process import COLLECT_AFTER
    from featureflow_cli.stream.fleet import is_orphan
    from featureflow_cli.stream.run import run

    gc.set_threshold(COLLECT_AFTER, 50, 50)
    progress: dict[str, Progress] = {}
    close = _expose(project, progress, port, host)
    shown = _Shown(stop)

    def show_round(sources: "list[Progress]") -> None:
        shown.show(sources)
        if is_orphan(project.environ):
            stop.set()

    try:
        return run(
            project,
            once=once,
            stop=stop,
            show=show_round,
            away=shown.away,
            skip_lost=skip_lost,
            progress=progress,
        )
    finally:
        shown.clear()
        close()


def _expose(
    project: "Project", progress: "dict[str, Progress]", port: int | None, host: str
) -> "Callable[[], None]":
    if port is None:
        return lambda: None
    from featureflow_cli.stream.metrics import StreamCollector, expose

    say(f"metrics at http://{host}:{port}/metrics")
    return expose(port, host, StreamCollector(progress, project.online.bytes_held))


def _run_fleet(
    ctx: typer.Context,
    stop: threading.Event,
    workers: int,
    options: list[str],
    port: int | None,
    host: str,
) -> "StreamReport":
    from featureflow_cli.evaluate.topics import streamed
    from featureflow_cli.stream.fleet import run_fleet, this_command
    from featureflow_cli.stream.progress import StreamReport, together

    call = invocation(ctx)
    project = call.project()
    if not streamed(project, project.repo):
        what = "--workers share the partitions of Kafka topics, and no source here is streamed from Kafka"
        raise UsageError(what, hint="set `stream: {from: kafka}`, or run one worker: files are one partition")
    target = ["--target", call.target] if call.target else []

    def command(number: int) -> list[str]:
        metrics = ["--metrics-port", str(port + number), "--metrics-host", host] if port is not None else []
        return this_command(["--chdir", call.directory, *target, "stream", "--json", *options, *metrics])

    started_us = call.clock()
    ended = run_fleet(
        command,
        workers,
        stop=stop,
        say=lambda number, line: say(f"worker {number + 1}: {line}"),
        environ=call.environ,
    )
    if ended.exit_code:
        raise typer.Exit(ended.exit_code)
    return StreamReport(together(ended.reports), call.clock() - started_us, stop.is_set())


class _Shown:
    """Progress on stderr: one line that is written over on a terminal, a line now and then elsewhere."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._terminal = is_terminal(sys.stderr)
        self._started = self._last = time.monotonic()
        self._read = 0
        self._held_line = False

    def show(self, sources: "list[Progress]") -> None:
        now = time.monotonic()
        passed = now - self._last
        if passed < (SHOWN_EVERY_S if self._terminal else LOGGED_EVERY_S):
            return
        read = sum(source.read + source.replayed for source in sources)
        read = max(read, self._read)  # what was taken back comes again
        news = read - self._read
        if not news and not self._terminal:
            return
        newest = max((source.newest_us for source in sources if source.newest_us is not None), default=None)
        text = f"{read:,} events, {news / passed:,.0f}/s" + (
            "" if newest is None else f", up to {format_timestamp(newest)[:19]}Z"
        )
        if self._terminal:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
            self._held_line = True
        else:
            say(text)
        self._last, self._read = now, read

    def away(self, err: "StoreUnavailable") -> None:
        """A store is waited for: once it is back, the stream goes on by itself."""
        self.clear()
        say(f"{style('waiting:', 'yellow', sys.stderr)} {err}")

    def clear(self) -> None:
        if self._held_line:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


def _lines(report: "StreamReport") -> list[str]:
    lines = [line for source in report.sources for line in _source_lines(source)]
    elapsed_s = max(report.elapsed_us, 1) / SECOND_US
    rate = f", {report.read / elapsed_s:,.0f} events/s" if report.read else ""
    stopped = " (stopped)" if report.stopped else ""
    return [*lines, f"Streamed {report.read:,} events in {elapsed_s:,.1f} s{rate}{stopped}."]


def _source_lines(source: "SourceReport") -> list[str]:
    parts = [f"{source.accepted:,} applied"]
    if source.duplicates:
        parts.append(f"{source.duplicates:,} duplicates")
    if source.letters:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in source.letters.items())
        parts.append(f"{sum(source.letters.values()):,} dead letters ({reasons})")
    if source.history_letters:
        parts.append(f"{source.history_letters:,} dead letters of its history")
    if source.before_until:
        parts.append(f"{source.before_until:,} before `until` skipped")
    if source.lost:
        parts.append(f"{source.lost:,} gone from the topic and skipped")
    if source.replayed:
        parts.append(f"{source.replayed:,} replayed from the log")
    lines = [f"{source.source}: {', '.join(parts)}"]
    if source.bootstrapped:
        lines.append(f"  built the state of {', '.join(source.bootstrapped)} from the log")
    if source.letters or source.history_letters:
        lines.append("  see them: featureflow dead-letters list")
    return lines
