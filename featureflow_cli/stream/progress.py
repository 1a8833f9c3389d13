"""Counts of what a stream did; whoever shows them (the CLI) asks, nothing here prints."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from featureflow_cli.compute.codes import Ints
from featureflow_cli.stream.deciding import Batch
from featureflow_cli.times import SECOND_US

STEP_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FRESHNESS_BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3_600.0)


class Histogram:
    """How many observations (seconds) lay at or below each bound, and their sum; `counts` has one more, above all."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = np.zeros(len(bounds) + 1, np.int64)
        self.sum = 0.0

    def observe(self, seconds: "float | npt.NDArray[np.float64]") -> None:
        values = np.atleast_1d(np.asarray(seconds, np.float64))
        places = np.searchsorted(self.bounds, values)
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.sum += float(values.sum())


@dataclass
class Progress:
    """Of one source since the worker started. Events are those decided here; `replayed` come from the log."""

    source: str
    accepted: int = 0
    duplicates: int = 0
    letters: Counter[str] = field(default_factory=Counter)  # by reason
    history_letters: int = 0  # of its history (`batch`), which is read for bootstraps: those that are new
    before_until: int = 0  # accepted into the log, but `batch` answers for their time
    replayed: int = 0
    writes: int = 0
    conflicts: int = 0
    committed: int = 0
    commits: int = 0
    late: int = 0
    lost: int = 0  # gone from the source before they were streamed, and skipped (--skip-lost)
    newest_us: int | None = None
    steps: dict[str, Histogram] = field(default_factory=dict)  # seconds of each step
    freshness: Histogram = field(
        default_factory=lambda: Histogram(FRESHNESS_BOUNDS)
    )  # event time to readable
    behind: dict[int, int] = field(default_factory=dict)  # events not read yet, by partition, as far as known
    bootstrapped: list[str] = field(default_factory=list)
    taken_up: int = 0

    @property
    def read(self) -> int:
        """Events that were decided: accepted, dropped as duplicates, or lettered."""
        return self.accepted + self.duplicates + self.letters.total()

    def count(self, batch: Batch) -> None:
        """Count what became of its events."""
        self._add(batch, 1)
        if batch.newest_us is not None:
            self.newest_us = max(batch.newest_us, self.newest_us or batch.newest_us)

    def uncount(self, batch: Batch) -> None:
        """Take back the batch that was counted last: its events are decided again."""
        self._add(batch, -1)
        self.newest_us = batch.before_us  # else most of them would count as late the next time

    def _add(self, batch: Batch, sign: int) -> None:
        if batch.is_replay:
            self.replayed += sign * batch.rows.num_rows
            return
        self.accepted += sign * batch.rows.num_rows
        self.duplicates += sign * batch.duplicates
        for reason, count in batch.reasons.items():
            self.letters[reason] += sign * count
        self.late += sign * batch.late
        self.before_until += sign * batch.before_until

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        """Count how long what is done within this takes, unless it fails."""
        started = time.perf_counter()
        yield
        self.steps.setdefault(step, Histogram(STEP_BOUNDS)).observe(time.perf_counter() - started)

    def readable(self, event_us: Ints, now_us: int) -> None:
        """Events of these times can be read since now."""
        self.freshness.observe((now_us - event_us) / SECOND_US)


@dataclass(frozen=True)
class SourceReport:
    """The final counts of one source."""

    source: str
    read: int
    accepted: int
    duplicates: int
    letters: dict[str, int]
    history_letters: int
    before_until: int
    late: int
    lost: int
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
        progress.history_letters,
        progress.before_until,
        progress.late,
        progress.lost,
        progress.replayed,
        progress.writes,
        progress.conflicts,
        progress.committed,
        progress.commits,
        tuple(progress.bootstrapped),
    )


def together(reports: Iterable[Mapping[str, Any]]) -> tuple[SourceReport, ...]:
    """What several workers did as one: each report is a StreamReport's `asdict`, and its counts add up."""
    found: dict[str, SourceReport] = {}
    for source in (source for report in reports for source in report["sources"]):
        mine = SourceReport(**{**source, "bootstrapped": tuple(source["bootstrapped"])})
        before = found.get(mine.source)
        found[mine.source] = mine if before is None else _added(before, mine)
    return tuple(found.values())


def _added(one: SourceReport, other: SourceReport) -> SourceReport:
    counts = {
        name: getattr(one, name) + getattr(other, name)
        for name, count in asdict(one).items()
        if isinstance(count, int)
    }
    letters = dict(sorted((Counter(one.letters) + Counter(other.letters)).items()))
    names = tuple(dict.fromkeys(one.bootstrapped + other.bootstrapped))
    return replace(one, **counts, letters=letters, bootstrapped=names)
