"""Parquet files of a Delta table, in daily folders: listed by a commit, and found again by their statistics.

A file is invisible until a commit lists it; what a killed process leaves behind is never read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.offline.delta import DataFile, Moved, Table, plain
from featureflow_cli.offline.places import Place

if TYPE_CHECKING:
    import pyarrow as pa

LOG_BOUNDS = ("_partition", "_offset")


@dataclass(frozen=True)
class FileRef:
    """A listed file: where it lies and what its rows lie between, both ends included.

    `bounds` are those of the columns that readers prune by. What the file has no statistics for is None, or not
    among the bounds: then it may hold anything; likewise `columns`, the names of those that it has.
    """

    place: Place = field(repr=False)
    name: str
    rows: int
    bytes: int
    first_us: int | None
    last_us: int | None
    bounds: Mapping[str, tuple[Any, Any]]
    columns: frozenset[str] | None

    @property
    def path(self) -> str:
        """Its absolute path, or its URL."""
        return self.place.full(self.name)

    @property
    def day(self) -> str:
        return day_of(self.name)

    def may_hold(self, since_us: int | None, before_us: int | None) -> bool:
        """Whether a row with `since_us <= timestamp < before_us` can be in it (None: no bound)."""
        return (since_us is None or self.last_us is None or self.last_us >= since_us) and (
            before_us is None or self.first_us is None or self.first_us < before_us
        )

    def may_hold_offsets(self, partition: int, start: int, end: int) -> bool:
        """Whether a row of `partition` with `start <= offset < end` can be in it."""
        return self.overlaps("_partition", partition, partition) and self.overlaps("_offset", start, end - 1)

    def overlaps(self, column: str, lowest: Any, highest: Any) -> bool:
        """Whether a value of the column between these two, both included, can be in it."""
        bounds = self.bounds.get(column)
        return bounds is None or (bounds[0] <= highest and bounds[1] >= lowest)


def listed(table: Table, timestamp: str, bounded: Sequence[str] = LOG_BOUNDS) -> tuple[FileRef, ...]:
    """The files of the version that `table` shows, in order of path (so, of day)."""
    import pyarrow as pa

    rows = table.files()
    nothing = [None] * rows.num_rows

    def side(which: str, name: str) -> "list[Any]":
        held = f"{which}.{name}"
        if held not in rows.column_names:
            return nothing
        column = rows.column(held)
        values: list[Any] = (column.cast(pa.int64()) if name == timestamp else column).to_pylist()
        return values

    sides = {name: (side("min", name), side("max", name)) for name in (timestamp, *bounded)}
    names, sizes = rows.column("path").to_pylist(), rows.column("size_bytes").to_pylist()
    counts, columns = rows.column("num_records").to_pylist(), _columns(rows)
    found = [
        FileRef(
            place=table.place,
            name=names[at],
            rows=counts[at],
            bytes=sizes[at],
            first_us=sides[timestamp][0][at],
            last_us=sides[timestamp][1][at],
            bounds={
                name: (low[at], high[at])
                for name, (low, high) in sides.items()
                if name != timestamp and low[at] is not None and high[at] is not None
            },
            columns=columns[at] or None,
        )
        for at in range(rows.num_rows)
    ]
    return tuple(sorted(found, key=lambda file: file.name))


def _columns(rows: "pa.Table") -> list[frozenset[str]]:
    """Per file the columns that it has a count of nulls for: a file that is older than a column has none."""
    prefix = "null_count."
    counted = {
        name.removeprefix(prefix): rows.column(name).is_valid().to_pylist()
        for name in rows.column_names
        if name.startswith(prefix)
    }
    return [frozenset(name for name, has in counted.items() if has[at]) for at in range(rows.num_rows)]


def commit(
    table: Table,
    written: Sequence[DataFile],
    transactions: Mapping[str, int],
    removed: Sequence[DataFile] = (),
) -> None:
    """`Table.commit`; where it fails, look whether it was made and only its answer was lost.

    Raises Moved where it was not (and the table now shows who was faster), StoreUnavailable where nobody can say.
    """
    try:
        table.commit(written, transactions, removed)
    except (Moved, StoreUnavailable):
        table.look()
        if not written or not table.paths().issuperset(file.path for file in written):
            raise


def local(files: Sequence[FileRef]) -> list[str]:
    """Paths on this machine under which the files can be read, in order; StoreUnavailable."""
    if not files:
        return []
    place = files[0].place
    try:
        return place.local([(file.name, file.bytes) for file in files])
    except OSError as error:
        message = f"cannot read the offline store: {plain(error)}"
        raise StoreUnavailable(message, at=str(place)) from error


def scan(
    files: Sequence[FileRef], schema: "pa.Schema", columns: Sequence[str], where: Any
) -> "Iterator[pa.RecordBatch]":
    """Batches of `columns` from the rows that `where` (a pyarrow expression) keeps, in no order.

    The files are of one table and read where they lie, no more of them than that takes. A column that an older
    file has not is null.
    """
    if not files:
        return
    place = files[0].place
    try:
        found = place.dataset([file.name for file in files], schema)
        yield from found.to_batches(columns=list(columns), filter=where)
    except OSError as error:
        message = f"cannot read the offline store: {plain(error)}"
        raise StoreUnavailable(message, at=str(place)) from error


def day_of(path: str) -> str:
    """The day (as in `2026-01-31`) that a file's rows are of, by its path in the table."""
    return path.split("/", 1)[0].removeprefix("_day=")
