"""Counts of what a stream did; whoever shows them (the CLI) asks, nothing here prints."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Of one source since the worker started. Events are those decided here; `replayed` come from the log."""

    source: str
    accepted: int = 0
    duplicates: int = 0
    letters: Counter[str] = field(default_factory=Counter)  # by reason
    before_until: int = 0  # accepted into the log, but `batch` answers for their time
    replayed: int = 0
    writes: int = 0
    conflicts: int = 0
    committed: int = 0
    commits: int = 0
    newest_us: int | None = None
    bootstrapped: list[str] = field(default_factory=list)
    taken_up: int = 0

    @property
    def read(self) -> int:
        """Events that were decided: accepted, dropped as duplicates, or lettered."""
        return self.accepted + self.duplicates + self.letters.total()


@dataclass(frozen=True)
class SourceReport:
    """The final counts of one source."""

    source: str
    read: int
    accepted: int
    duplicates: int
    letters: dict[str, int]
    before_until: int
    replayed: int
    writes: int
    conflicts: int
    committed: int
    commits: int
    bootstrapped: tuple[str, ...]


@dataclass(frozen=True)
class StreamReport:
    """What one run of the stream did, per source, in the order of the definitions."""

    sources: tuple[SourceReport, ...]
    elapsed_us: int
    stopped: bool  # by a signal, not because there was nothing left

    @property
    def read(self) -> int:
        return sum(source.read for source in self.sources)


def report(progress: Progress) -> SourceReport:
    return SourceReport(
        progress.source,
        progress.read,
        progress.accepted,
        progress.duplicates,
        dict(sorted(progress.letters.items())),
        progress.before_until,
        progress.replayed,
        progress.writes,
        progress.conflicts,
        progress.committed,
        progress.commits,
        tuple(progress.bootstrapped),
    )
