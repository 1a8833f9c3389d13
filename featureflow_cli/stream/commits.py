"""Offline commits: they continue the table's ends, and what comes too late is trimmed (design.md 4).

They may be under way in a thread while the next batches are merged: writing Parquet takes a second core, and what
is readable online does not wait for it. There rows are also encoded as they come (the draft), so that a commit has
few left to encode, and whoever waits for it waits briefly.
"""

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING

from featureflow_cli.errors import Conflict, FeatureflowError
from featureflow_cli.offline.drafts import Draft
from featureflow_cli.offline.snapshots import MeaningMoved, Snapshot, trim
from featureflow_cli.stream import heap
from featureflow_cli.stream.deciding import Batch
from featureflow_cli.stream.faults import reached
from featureflow_cli.stream.outside import Log, Outside
from featureflow_cli.stream.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

DRAFT_ROWS = 61_440
"""So many are encoded at once, as one row group: half of DuckDB's own size."""


class CutBack(FeatureflowError):
    """The log ends before what is held continues it: somebody removed or restored it; take it up anew."""


class Commits:
    """The batches that are decided and not in the log yet, and the snapshot `base` that they continue.

    One commit at a time: while one is under way nobody else may touch the log and the letters of `outside`. The
    `executor` is always the same, of one thread: what is encoded there is done before the commit that follows.
    """

    def __init__(self, outside: Outside, progress: Progress) -> None:
        self.base: Snapshot | None = None
        self._outside = outside
        self._progress = progress
        self._pending: list[Batch] = []
        self._flying: list[Batch] = []
        self._flight: Future[tuple[Snapshot, int]] | None = None
        self._draft: Future[Draft] | None = None
        self._in_draft = 0

    @property
    def held(self) -> list[Batch]:
        """What a crash would lose, to be decided again."""
        return [*self._flying, *self._pending]

    def add(self, batch: Batch) -> None:
        self._pending.append(batch)

    def draft(self, executor: Executor) -> None:
        """Begin to encode what is held beyond the draft, once that is worth it."""
        waiting, log = self._pending[self._in_draft :], self._outside.log
        if log is not None and sum(batch.rows.num_rows for batch in waiting) >= DRAFT_ROWS:
            self._draft = executor.submit(_drafted, log, self._draft, waiting)
            self._in_draft = len(self._pending)

    def start(self, executor: Executor) -> None:
        """Begin to commit all that is held, once the commit before has landed; `land` says how it went."""
        self.land()
        if self._pending and self.base is not None:
            draft, self._flying = self._draft, self._pending
            self._hold([])
            self._flight = executor.submit(_beside, self._outside, self._flying, self.base, draft)

    def is_ready(self) -> bool:
        """Whether no commit is under way."""
        return self._flight is None or self._flight.done()

    def land(self) -> None:
        """Wait for the commit that is under way; raises what stopped it, and holds its batches again."""
        if self._flight is None:
            return
        flight, self._flight = self._flight, None
        try:
            self._landed(flight.result())
        except FeatureflowError:
            self._hold(self.held)
            raise
        finally:
            self._flying = []

    def commit(self) -> None:
        """Commit all that is held, here and now. Raises CutBack, MeaningMoved and StoreUnavailable."""
        self.land()
        if self._pending and self.base is not None:
            draft, batches = self._draft, self._pending
            self._hold(batches)  # a draft serves one attempt
            self._landed(commit(self._outside, batches, self.base, draft))
            self._hold([])

    def forget(self) -> list[Batch]:
        """Let everything go; what is under way may still arrive. Answers what is not in the log."""
        if self._flight is not None and self._flight.exception() is None:
            self.land()
        lost = self.held
        self._hold([])
        self._flying, self._flight, self.base = [], None, None
        return lost

    def _hold(self, batches: list[Batch]) -> None:
        """Hold these, none of them encoded."""
        self._pending, self._draft, self._in_draft = batches, None, 0

    def _landed(self, done: tuple[Snapshot, int]) -> None:
        self.base, rows = done
        self._progress.committed += rows
        self._progress.commits += rows > 0
        self._outside.intake.report(self.base.ends)


def _drafted(log: Log, before: "Future[Draft] | None", batches: Sequence[Batch]) -> Draft:
    """The draft of before, or a new one, with the rows of these batches."""
    draft = log.draft() if before is None else before.result()
    draft.add(_rows(log, batches))
    return draft


def _rows(log: Log, batches: Sequence[Batch]) -> "pa.Table":
    import pyarrow as pa

    return pa.concat_tables([log.schema.empty_table(), *(batch.rows for batch in batches)])


def _beside(
    outside: Outside, batches: Sequence[Batch], base: Snapshot, draft: "Future[Draft] | None"
) -> tuple[Snapshot, int]:
    """`commit`, in a thread of its own: it has the time to tidy up."""
    done = commit(outside, batches, base, draft)
    heap.give_back()
    return done


def commit(
    outside: Outside, batches: Sequence[Batch], base: Snapshot, drafting: "Future[Draft] | None" = None
) -> tuple[Snapshot, int]:
    """Write the batches' letters, then commit their rows; the log after it, and how many rows it lacked.

    `base` is the snapshot by whose meaning the batches were judged; `drafting` encodes the first of them. Raises
    CutBack where the log ends before the batches start: then rows in between are missing.
    """
    import pyarrow as pa

    assert outside.log is not None
    outside.letters.append(pa.concat_tables([batch.letters for batch in batches]))
    reached("lettered")
    rows = _rows(outside.log, batches)
    draft = None if drafting is None else drafting.result()
    spans: dict[int, tuple[int, int]] = {}
    for batch in batches:
        for partition, (start, end) in batch.spans.items():
            spans[partition] = (spans.get(partition, (start, end))[0], end)
    while True:
        now = outside.log.snapshot()
        for partition, (start, _) in spans.items():
            if _is_cut_back(base, now, partition, start):
                message = (
                    f"the log ends before offset {start} of partition {partition}, although it once did not"
                )
                raise CutBack(message)
        left, spans = trim(rows, spans, now)
        if not spans:
            return now, 0
        if left.num_rows < rows.num_rows:  # the draft has rows that the log has
            rows, draft = left, None
        try:
            done = outside.log.append(rows, spans, base, draft), rows.num_rows
            reached("committed")
            return done
        except MeaningMoved:
            raise
        except Conflict:  # another worker was faster: look again at what is left to commit
            draft = None


def _is_cut_back(base: Snapshot, now: Snapshot, partition: int, start: int) -> bool:
    """Whether the log ends before `start`, although it once did not (somebody removed or restored it)."""
    known = now.ends.get(partition)
    return known < start if known is not None else partition in base.ends
