"""What a writer of the offline log looks at, and how it cuts a commit that came too late."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from featureflow_cli.errors import Conflict, FeatureflowError
from featureflow_cli.offline.files import FileRef

if TYPE_CHECKING:
    import pyarrow as pa

Spans = Mapping[int, tuple[int, int]]
"""Per partition the offsets [start, end) that a commit decides; rows are those accepted among them."""


class MeaningMoved(Conflict):
    """The log takes commits of another version of the definitions: learn the applied ones, then repeat."""


@dataclass(frozen=True)
class Snapshot:
    """One version of the log. `version` is -1, and everything empty, where there is no table yet.
    `ends` holds one past the last offset of each partition that the log knows.

    `meaning` is Source.meaning of whoever may commit; `meaning_order` grows each time it is raised, and
    `raised_order` is that of the last raise, 0 where the log never knew another meaning.
    """

    version: int
    ends: dict[int, int]
    meaning: str
    meaning_order: int
    _files: Callable[[], tuple[FileRef, ...]]
    raised_order: int = 0

    @cached_property
    def files(self) -> tuple[FileRef, ...]:
        """The files of this version, in order of day; read from the log when first asked for."""
        return self._files()


def trim(rows: "pa.Table", ends: Spans, snapshot: Snapshot) -> "tuple[pa.Table, dict[int, tuple[int, int]]]":
    """What is left of a refused commit: per partition the offsets from the snapshot's end on, and their rows.

    Partitions that the table has past the span's end go; spans may be left without rows. FeatureflowError
    where the table ends before a span starts: rows in between are missing, it must be taken up anew.
    """
    import numpy as np
    import pyarrow as pa

    left: dict[int, tuple[int, int]] = {}
    for partition, (start, end) in ends.items():
        known = snapshot.ends.get(partition, start)
        if known < start:
            message = (
                f"the log ends at {known} in partition {partition}, and offsets up to {start} are missing"
            )
            raise FeatureflowError(message, hint="the partition must be taken up anew from the log's end")
        if known < end:
            left[partition] = (known, end)
    partitions, offsets = (rows.column(name).to_numpy() for name in ("_partition", "_offset"))
    kept = np.zeros(rows.num_rows, np.bool_)
    for partition, (start, end) in left.items():
        kept |= (partitions == partition) & (offsets >= start) & (offsets < end)
    return (rows if kept.all() else rows.filter(pa.array(kept))), left
