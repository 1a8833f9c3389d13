"""Rows on their way into a Delta table: encoded as they come, put into daily files, then listed by a commit.

Until it is put, a draft lies in memory alone: who lets it go leaves nothing behind.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.offline.delta import DataFile, plain
from featureflow_cli.offline.files import LOG_BOUNDS
from featureflow_cli.offline.parquet import Encoder, options_for
from featureflow_cli.offline.places import Place
from featureflow_cli.times import DAY_US, format_timestamp

if TYPE_CHECKING:
    import pyarrow as pa


class Draft:
    """One file a day of `timestamp`, of rows (without `_day`) that may come in several parts; for one thread at a time.

    `bounded` are columns that get statistics beside the timestamp. `rows` says how many it holds.
    """

    def __init__(self, place: Place, timestamp: str, bounded: Sequence[str] = LOG_BOUNDS) -> None:
        self.rows = 0
        self._place = place
        self._timestamp = timestamp
        self._bounded = bounded
        self._options: dict[str, Any] = {}
        self._days: dict[str, Encoder] = {}

    def add(self, rows: "pa.Table") -> None:
        """Encode a part: each of its days becomes row groups of its own, in the order in which the rows came."""
        import numpy as np

        if rows.num_rows == 0:
            return
        days = rows.column(self._timestamp).cast("int64").to_numpy() // DAY_US
        if days.min() != days.max():
            order = np.argsort(days, kind="stable")
            rows, days = rows.combine_chunks().take(order), days[order]
        self._options = self._options or options_for(rows, self._timestamp, self._bounded)
        for start, end in pairwise([0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]):
            day = format_timestamp(int(days[start]) * DAY_US)[:10]
            if day not in self._days:
                self._days[day] = Encoder(rows.schema, self._options, self._timestamp, self._bounded)
            self._days[day].add(rows.slice(start, end - start))
        self.rows += rows.num_rows

    def put(self) -> list[DataFile]:
        """Write the files, which nothing lists yet; after that the draft is of no more use.

        StoreUnavailable when the place refuses: then none of them is left.
        """
        written: list[DataFile] = []
        try:
            while self._days:
                day, encoder = self._days.popitem()
                encoded, path = encoder.close(), f"_day={day}/{uuid.uuid4()}.parquet"
                written.append(DataFile(path, encoded.content.size, day, encoded.stats, 0))
                modified_ms = self._place.put(path, encoded.content)
                written[-1] = replace(written[-1], modified_ms=modified_ms)
        except BaseException as error:
            remove(self._place, written)
            if not isinstance(error, OSError):
                raise
            message = f"cannot write to the offline store: {plain(error)}"
            raise StoreUnavailable(message, at=str(self._place)) from error
        return written


def remove(place: Place, files: Sequence[DataFile]) -> None:
    """Take away files that were never listed; one that will not go is left for `vacuum`."""
    for file in files:
        try:
            place.remove(file.path)
        except OSError:
            continue
