"""The only place that prints: results to stdout, talk to stderr, no colour where nobody sees it."""

import os
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

import typer

INTERRUPTED = 130
COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "dim": 2, "bold": 1}


def show(text: str) -> None:
    """A result, to stdout."""
    typer.echo(text)


def show_json(value: object) -> None:
    """A result as JSON, keys in the given order; decimals and paths as text."""
    import json

    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def say(text: str) -> None:
    """A message about what is going on, to stderr."""
    typer.echo(text, err=True)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is looking at `stream` (never so under CI; Python has None for a closed one)."""
    return stream is not None and stream.isatty() and not os.environ.get("CI")


class StatusLine:
    """One line on stderr that is written over while something goes on; nothing where nobody is looking."""

    def __init__(self, every_s: float = 0.2) -> None:
        self._terminal = is_terminal(sys.stderr)
        self._every_s = every_s
        self._last_s = 0.0

    def show(self, text: str) -> None:
        now_s = time.monotonic()
        if self._terminal and now_s - self._last_s >= self._every_s:
            self._last_s = now_s
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._last_s:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


def style(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour, or as it is where `stream` (default: stdout) is no terminal or NO_COLOR is set."""
    plain = (
        os.environ.get("NO_COLOR")
        or os.environ.get("TERM") == "dumb"
        or not is_terminal(stream or sys.stdout)
    )
    return text if plain else f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns aligned by spaces, numbers to the right, no frame: reads well and cuts well."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[at]) for line in [list(headers), *cells]) for at in range(len(headers))]
    right = [bool(rows) and all(_is_number(row[at]) for row in rows) for at in range(len(headers))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [list(headers), *cells]
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if _is_number(value) else str(value)


def confirm(question: str) -> bool:
    """Asks on the terminal; only an explicit yes counts. Ctrl-C ends the command, as anywhere, with 130."""
    try:
        return typer.confirm(question, default=False, err=True)
    except typer.Abort as err:
        raise typer.Exit(INTERRUPTED) from err
