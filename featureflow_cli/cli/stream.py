"""`featureflow stream`."""

import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import is_terminal, say, show, show_json, style
from featureflow_cli.times import SECOND_US, format_timestamp

if TYPE_CHECKING:
    from featureflow_cli.errors import StoreUnavailable
    from featureflow_cli.stream.progress import Progress, SourceReport, StreamReport

SHOWN_EVERY_S = 1.0
LOGGED_EVERY_S = 10.0
"""How often progress is told to a terminal, and to a file."""


def stream(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Apply what is there, then exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Apply new events to the online store and the offline log, and load tables that others keep.

    Without --once it follows the sources until it is stopped (Ctrl-C, SIGTERM): then it finishes its batch,
    commits and exits. Killed at any moment it loses and doubles nothing: start it again.

    Example: featureflow stream --once
    """
    from featureflow_cli.stream.run import run

    project = invocation(ctx).project()
    drift = project.drift()
    if drift is not None:
        say(f"note: {drift}")
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    shown = _Shown(stop)
    try:
        report = run(project, once=once, stop=stop, show=shown.show, away=shown.away)
    finally:
        shown.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
    if as_json:
        show_json({**asdict(report), "elapsed_s": report.elapsed_us / SECOND_US})
        return
    for line in _lines(report):
        show(line)


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
        rate = (read - self._read) / passed
        if read == self._read and not self._terminal:
            return
        newest = max((source.newest_us for source in sources if source.newest_us is not None), default=None)
        text = f"{read:,} events, {rate:,.0f}/s" + (
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
    if source.before_until:
        parts.append(f"{source.before_until:,} before `until` skipped")
    if source.replayed:
        parts.append(f"{source.replayed:,} replayed from the log")
    lines = [f"{source.source}: {', '.join(parts)}"]
    if source.bootstrapped:
        lines.append(f"  built the state of {', '.join(source.bootstrapped)} from the log")
    if source.letters:
        lines.append("  see them: featureflow dead-letters list")
    return lines
