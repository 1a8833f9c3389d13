"""What a stream tells of its progress."""

import threading

import pytest

from featureflow_cli.cli import stream as verb
from featureflow_cli.stream.progress import Progress


def test_what_was_taken_back_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full store has a batch decided, taken back and decided again, for as long as it is full."""
    monkeypatch.setattr(verb, "LOGGED_EVERY_S", 0.0)  # each count is told as it comes
    shown = verb._Shown(threading.Event())
    for read in (10, 0, 10, 0, 10, 12):
        progress = Progress("events")
        progress.accepted = read
        assert progress.read == read
        shown.show([progress])
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == ["10 events", "12 events"]
