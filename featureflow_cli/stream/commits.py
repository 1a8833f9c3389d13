"""Offline commits: they continue the table's ends, and what comes too late is trimmed (design.md 4)."""

from collections.abc import Sequence

from featureflow_cli.errors import Conflict
from featureflow_cli.offline.snapshots import MeaningMoved, Snapshot, trim
from featureflow_cli.stream.deciding import Batch
from featureflow_cli.stream.faults import reached
from featureflow_cli.stream.outside import Outside


def commit(outside: Outside, batches: Sequence[Batch], base: Snapshot) -> tuple[Snapshot, int] | None:
    """Write the batches' letters, then commit their rows; the log after it, and how many rows it lacked.

    None where the log ends before the batches start: then rows in between are missing, and the partition is
    to be taken up anew. `base` is the snapshot by whose meaning the batches were judged.
    """
    import pyarrow as pa

    assert outside.log is not None
    outside.letters.append(pa.concat_tables([batch.letters for batch in batches]))
    reached("lettered")
    rows = pa.concat_tables([outside.log.schema.empty_table(), *(batch.rows for batch in batches)])
    spans: dict[int, tuple[int, int]] = {}
    for batch in batches:
        for partition, (start, end) in batch.spans.items():
            spans[partition] = (spans.get(partition, (start, end))[0], end)
    while True:
        now = outside.log.snapshot()
        if any(_is_cut_back(base, now, partition, start) for partition, (start, _) in spans.items()):
            return None
        rows, spans = trim(rows, spans, now)
        if not spans:
            return now, 0
        try:
            return outside.log.append(rows, spans, base), rows.num_rows
        except MeaningMoved:
            raise
        except Conflict:  # another worker was faster: look again at what is left to commit
            continue


def _is_cut_back(base: Snapshot, now: Snapshot, partition: int, start: int) -> bool:
    """Whether the log ends before `start`, although it once did not (somebody removed or restored it)."""
    known = now.ends.get(partition)
    return known < start if known is not None else partition in base.ends
