"""What passes from a reader to the decoder, and from the decoder on."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from featureflow_cli.sources import letters


@dataclass(frozen=True)
class RawBatch:
    """Events as they came, of one partition, in order of offset.

    `content` is a list of JSON messages (bytes), an Arrow table whose columns are the file's, or what has become of
    them already (Decoded); `offsets` has one offset for each. `letters` (letters.BATCH_SCHEMA) are what the reader
    itself could not read as events; their offsets are others. `end` is one past the last offset that this batch
    covers. `recorded_at_us` is the time that the source recorded: of all, or of each event and letter, in order of
    offset.
    """

    content: Any
    offsets: npt.NDArray[np.int64]
    end: int
    recorded_at_us: int | npt.NDArray[np.int64]
    letters: Any = field(default_factory=lambda: letters.NO_LETTERS)

    def recorded_of(self, offsets: npt.NDArray[np.int64]) -> int | npt.NDArray[np.int64]:
        """The time that the source recorded for the events and letters at `offsets` (of this batch)."""
        if isinstance(self.recorded_at_us, int):
            return self.recorded_at_us
        every = self.offsets
        if len(offsets) == len(every) and not self.letters.num_rows:
            return self.recorded_at_us
        if self.letters.num_rows:
            every = np.union1d(every, self.letters.column("offset").to_numpy())
        return self.recorded_at_us[np.searchsorted(every, offsets)]


@dataclass(frozen=True)
class Decoded:
    """`rows`: the source's columns in its declared types and `_offset` (int64); `letters`:
    letters.BATCH_SCHEMA.

    Both in order of offset; every offset of the batch is in one of them, once.
    """

    rows: Any
    letters: Any

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Offsets of `rows`."""
        found: npt.NDArray[np.int64] = self.rows.column("_offset").to_numpy()
        return found
