"""The rows of one file, in pieces of bounded memory, numbered from 0 in the order in which they lie there.

The number of a row is the same however the file is read, so that an offset means one row for good. A blank
line is no event: of NDJSON it keeps its number, of CSV it has none. What cannot be read as a row is a letter
of the piece.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.arrays import Ints
from featureflow_cli.sources.letters import Letter, Reason

PIECE_ROWS = 32_768
PIECE_BYTES = 32 << 20
FIRST_ROWS = 64
"""Rows of a CSV that are read before anything is known of their width."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Piece:
    """`content` as in RawBatch; `numbers` are its rows'; `letters` have row numbers for offsets.

    `end` is one past the last row number that the piece covers. `broken` says why nothing from the first
    uncovered row on can be read; such a piece is the last one, and empty.
    """

    content: Any
    numbers: Ints
    end: int
    letters: Sequence[Letter] = field(default=())
    broken: str = ""


Reader = Callable[[Path, Source, int], Iterator[Piece]]
"""Reads a file from a row number on. OSError with an `errno` where the disk refuses."""


def read_ndjson(path: Path, source: Source, start: int) -> Iterator[Piece]:
    """One JSON text a line; the numbers are those of the lines."""
    with path.open("rb") as file:
        number = 0
        while lines := _some_lines(file):
            if number == 0:
                lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
            end = number + len(lines)
            if end > start:
                kept = [row for row in range(max(start, number), end) if not lines[row - number].isspace()]
                messages = [lines[row - number] for row in kept]
                yield Piece(messages, np.array(kept, np.int64), end)
            number = end


def read_csv(path: Path, source: Source, start: int) -> Iterator[Piece]:
    """Text columns under their header's names, an empty field null; a line of another width is a letter."""
    csv.field_size_limit(2**31 - 1)  # Python's own limit is 128 KiB a field
    with path.open("rb") as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        records = csv.reader(text)
        number, step = 0, FIRST_ROWS
        try:
            names = [name.strip() for name in next(filter(None, records), [])]
            if problem := _twice(names, source):
                yield _broken(0, problem)
                return
            while some := list(islice(records, step)):
                rows = [record for record in some if record]
                end = number + len(rows)
                if end > start:
                    yield _csv_piece(rows[max(0, start - number) :], names, max(start, number), source)
                number = end
                width = raw.tell() // max(1, number)
                step = max(1, min(PIECE_ROWS, 8 * step, PIECE_BYTES // max(1, width)))
        except csv.Error as error:
            yield _broken(max(start, number), str(error))


def read_parquet(path: Path, source: Source, start: int) -> Iterator[Piece]:
    """Row group by row group; where one is broken, a letter stands for the rest of the file.

    How much is read at once depends on the file alone: so do the rows that come before the broken place.
    """
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            if problem := _twice(file.schema_arrow.names, source):
                yield _broken(0, problem)
                return
            columns = _parquet_columns(file.schema_arrow, source)
            for group in range(file.metadata.num_row_groups):
                meta = file.metadata.row_group(group)
                if number + meta.num_rows <= start:
                    number += meta.num_rows
                    continue
                width = meta.total_byte_size // max(1, meta.num_rows)
                step = max(1, min(PIECE_ROWS, PIECE_BYTES // max(1, width)))
                for batch in file.iter_batches(step, row_groups=[group], columns=columns):
                    end = number + batch.num_rows
                    if end > start:
                        first = max(start, number)
                        rows = pa.Table.from_batches([batch.slice(first - number)])
                        yield Piece(rows, np.arange(first, end), end)
                    number = end
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        if number >= start:  # else whoever read up to there has told of it
            yield _broken(number, str(error))


READERS: dict[str, Reader] = {
    ".parquet": read_parquet,
    ".ndjson": read_ndjson,
    ".jsonl": read_ndjson,
    ".csv": read_csv,
}
"""By the ending of the file's name."""


def _some_lines(file: BinaryIO) -> list[bytes]:
    """The next lines, of about PIECE_BYTES, at most PIECE_ROWS."""
    return list(_until_full(islice(file, PIECE_ROWS)))


def _until_full(lines: Iterator[bytes]) -> Iterator[bytes]:
    left = PIECE_BYTES
    for line in lines:
        yield line
        left -= len(line)
        if left <= 0:
            return


def _csv_piece(rows: list[list[str]], names: list[str], first: int, source: Source) -> Piece:
    numbers = np.arange(first, first + len(rows))
    widths = np.fromiter(map(len, rows), np.int64, len(rows))
    odd = np.flatnonzero(widths != len(names))
    letters = [
        Letter(
            int(numbers[row]),
            Reason.UNDECODABLE,
            f"the line has {widths[row]} fields, the header {len(names)}",
            _line(rows[row]),
        )
        for row in odd
    ]
    if odd.size:
        rows = [row for row in rows if len(row) == len(names)]
    fields = list(zip(*rows, strict=True)) or [()] * len(names)
    table = pa.table({name: _texts(fields[names.index(name)]) for name in _needed(names, source)})
    if not table.num_columns:  # the header has none of the source's columns
        table = pa.table({"": pa.nulls(len(rows))})
    return Piece(table, np.delete(numbers, odd), first + len(widths), letters)


def _texts(values: Sequence[str]) -> Any:
    """Text where it is UTF-8, else bytes; empty is null."""
    try:
        array = pa.array(values, pa.string())
    except UnicodeEncodeError:
        array = pa.array([value.encode(errors="surrogateescape") for value in values], pa.binary())
    return pc.if_else(pc.equal(pc.binary_length(array), 0), pa.scalar(None, array.type), array)


def _line(row: Sequence[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(row)
    return line.getvalue().encode(errors="surrogateescape")


def _needed(names: Sequence[str], source: Source) -> list[str]:
    """The file's columns that decoding asks for: a whole dotted path, or the column where the path starts."""
    wanted = {name for path in source.paths.values() for name in (".".join(path), path[0])}
    return [name for name in names if name in wanted]


def _parquet_columns(schema: Any, source: Source) -> list[str]:
    """What to read of the file: of structs, the fields that paths lead to."""
    names = _needed(schema.names, source)
    paths: dict[str, list[str]] = {path[0]: [] for path in source.paths.values() if path[0] in names}
    for path in source.paths.values():
        if path[0] in paths and ".".join(path) not in names:
            paths[path[0]].append(".".join(path))
    whole = [name for name in names if not (paths.get(name) and pa.types.is_struct(schema.field(name).type))]
    return whole + [path for name in names if name not in whole for path in paths[name]]


def _twice(names: Sequence[str], source: Source) -> str:
    repeated = sorted(name for name in set(_needed(names, source)) if names.count(name) > 1)
    return f"it has the column '{repeated[0]}' twice" if repeated else ""


def _broken(number: int, problem: str) -> Piece:
    return Piece([], np.empty(0, np.int64), number, broken=" ".join(problem.split()))
