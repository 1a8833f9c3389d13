"""Many small files of a day become few: the same rows by time, in a version that changes no data."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.offline import drafts, files
from featureflow_cli.offline.delta import DataFile, Table, plain, settled
from featureflow_cli.offline.files import FileRef

if TYPE_CHECKING:
    import pyarrow as pa

SMALL_BYTES = 32 << 20
TARGET_BYTES = 128 << 20
"""Files below SMALL are joined, as long as the result stays about TARGET: it is held in memory, compressed."""
PART_ROWS = 250_000
"""About so many rows are held in memory as they are."""
MANY = 100
"""So many small files of one day are worth joining while the stream runs: a commit costs by the files listed."""


@dataclass(frozen=True)
class Group:
    """Small files of one day that are to become one."""

    day: str
    files: tuple[DataFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Compacted:
    """What a compaction did: `before` files of `days` days became `after`."""

    before: int
    after: int
    days: int
    bytes_before: int
    bytes_after: int


NOTHING = Compacted(0, 0, 0, 0, 0)


def is_due(listed: Sequence[FileRef], many: int = MANY) -> bool:
    """Whether some day has so many small files that joining them is worth a commit."""
    days = Counter(file.day for file in listed if file.bytes < SMALL_BYTES)
    return any(count >= many for count in days.values())


def compact(
    table: Table,
    timestamp: str,
    minimum: int = 2,
    bounded: Sequence[str] = files.LOG_BOUNDS,
    dry_run: bool = False,
) -> Compacted:
    """Join a day's small files where there are at least `minimum`; with `dry_run` only say which.

    Commits of others go on meanwhile: none of them removes a file but another compaction, to which this one
    yields. Earlier versions stay readable until `vacuum` takes their files.
    """
    done: list[tuple[Group, list[DataFile]]] = []
    for group in groups(day_files(table), minimum):
        if dry_run:
            done.append((group, [DataFile("", 0, group.day, "", 0)]))
            continue
        joined = _join(table, group, timestamp, bounded)
        if _commit(table, joined, group):
            done.append((group, joined))
    return Compacted(
        before=sum(len(group.files) for group, _ in done),
        after=sum(len(joined) for _, joined in done),
        days=len({group.day for group, _ in done}),
        bytes_before=sum(group.bytes for group, _ in done),
        bytes_after=sum(file.bytes for _, joined in done for file in joined),
    )


def groups(by_day: Mapping[str, Sequence[DataFile]], minimum: int) -> list[Group]:
    """The small files of each day, cut into groups of about TARGET_BYTES; groups under `minimum` files go."""
    found: list[Group] = []
    for day, listed in sorted(by_day.items()):
        group: list[DataFile] = []
        for file in sorted(listed, key=lambda file: file.path):
            if file.bytes >= SMALL_BYTES:
                continue
            if sum(member.bytes for member in group) + file.bytes > TARGET_BYTES:
                found.append(Group(day, tuple(group)))
                group = []
            group.append(file)
        found.append(Group(day, tuple(group)))
    return [group for group in found if len(group.files) >= minimum]


def day_files(table: Table) -> Mapping[str, list[DataFile]]:
    """The listed files by day, as a commit that removes them wants them."""
    by_day: dict[str, list[DataFile]] = {}
    rows = table.files()
    for path, size in zip(
        rows.column("path").to_pylist(), rows.column("size_bytes").to_pylist(), strict=True
    ):
        day = files.day_of(path)
        by_day.setdefault(day, []).append(DataFile(path, size, day, "", 0))
    return by_day


def _join(table: Table, group: Group, timestamp: str, bounded: Sequence[str]) -> list[DataFile]:
    draft = drafts.Draft(table.place, timestamp, bounded)
    try:
        for part in _parts(table, group, timestamp):
            draft.add(part)
    except OSError as error:
        message = f"cannot read the offline store's files of {group.day}: {plain(error)}"
        raise StoreUnavailable(message, at=str(table.place)) from error
    return draft.put()


def _parts(table: Table, group: Group, timestamp: str) -> "Iterator[pa.Table]":
    """The rows, a stretch of the group's time after the other: row groups follow one another in time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = {file.path for file in group.files}
    chosen = [file for file in files.listed(table, timestamp) if file.name in names]
    found = table.place.dataset([file.path for file in group.files], _held(table))
    first = min((file.first_us for file in chosen if file.first_us is not None), default=0)
    last = max((file.last_us for file in chosen if file.last_us is not None), default=0)
    count = max(1, sum(file.rows for file in chosen) // PART_ROWS)
    edges = [first + (last - first) * number // count for number in range(1, count)]
    kind, column = found.schema.field(timestamp).type, pc.field(timestamp)
    for low, high in pairwise([None, *edges, None]):
        where = pc.scalar(True)
        if low is not None:
            where = where & (column >= pa.scalar(low, kind))
        if high is not None:
            where = where & (column < pa.scalar(high, kind))
        yield found.to_table(filter=where, batch_readahead=2, fragment_readahead=2).sort_by(timestamp)


def _held(table: Table) -> "pa.Schema":
    """The columns that lie in the files; the day is in their folder's name."""
    import pyarrow as pa

    return pa.schema([field for field in table.schema if field.name != "_day"])


def _commit(table: Table, joined: list[DataFile], group: Group) -> bool:
    """False, and nothing left behind, where another compaction has taken one of the files."""

    def turn() -> bool:
        if not table.paths().issuperset(file.path for file in group.files):
            drafts.remove(table.place, joined)
            return False
        files.commit(table, joined, {}, removed=group.files)
        return True

    return settled(table, turn)
