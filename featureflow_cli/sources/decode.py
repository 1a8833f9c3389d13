"""Raw batches become rows of the source's schema; what does not fit becomes a letter, and the rest goes on.

Nothing is lost: every event of the batch is either in the rows or in the letters (design.md 1.9 and 4, Bad
input).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.views import Source
from featureflow_cli.sources import json_messages, json_structs, letters
from featureflow_cli.sources.arrays import Bools, Ints
from featureflow_cli.sources.batches import Decoded, RawBatch
from featureflow_cli.sources.fitting import fit
from featureflow_cli.sources.json_paths import text_at
from featureflow_cli.sources.letters import Letter, Reason, shown
from featureflow_cli.sources.literals import ISO8601
from featureflow_cli.sources.parallel import each
from featureflow_cli.sources.payloads import as_text, payloads
from featureflow_cli.spec.types import arrow_type

NOTHING = np.empty(0, np.int64)


def decode(batch: RawBatch, source: Source) -> Decoded:
    """Any raw batch; its own letters are among the answer's."""
    if isinstance(batch.content, Decoded):
        return batch.content
    if isinstance(batch.content, pa.Table):
        decoded = decode_table(batch.content, batch.offsets, source)
    else:
        decoded = decode_json(batch.content, batch.offsets, source)
    if batch.letters.num_rows == 0:
        return decoded
    return Decoded(decoded.rows, letters.join([batch.letters, decoded.letters]))


def decode_all(batches: Sequence[RawBatch], source: Source) -> list[Decoded]:
    """What `decode` says of each. Messages are read as if all were of one batch: every reading has its price."""
    fresh = [batch for batch in batches if not isinstance(batch.content, Decoded)]
    if all(isinstance(batch.content, list) for batch in fresh):
        made = iter(_decode_side_by_side(fresh, source))
    else:
        made = iter(each(partial(decode, source=source), fresh))
    return [batch.content if isinstance(batch.content, Decoded) else next(made) for batch in batches]


def _decode_side_by_side(batches: Sequence[RawBatch], source: Source) -> list[Decoded]:
    """Lists of messages: their places side by side stand for the offsets, until each batch gets what is its own."""
    messages = list(chain.from_iterable(batch.content for batch in batches))
    offsets = np.concatenate([NOTHING, *(batch.offsets for batch in batches)])
    bounds = np.cumsum([0, *(len(batch.content) for batch in batches)])
    whole = decode_json(messages, np.arange(len(messages)), source)
    rows, rows_of = _cut(whole.rows, "_offset", offsets, bounds)
    refused, refused_of = _cut(whole.letters, "offset", offsets, bounds)
    return [
        Decoded(rows[start:stop], letters.join([batch.letters, refused[first:last]]))
        for batch, (start, stop), (first, last) in zip(batches, rows_of, refused_of, strict=True)
    ]


def _cut(table: Any, name: str, offsets: Ints, bounds: Ints) -> tuple[Any, list[tuple[int, int]]]:
    """The table with offsets in place of places in its column `name`, and where each batch's rows are in it."""
    places = table.column(name).to_numpy()
    column = table.schema.get_field_index(name)
    cuts = np.searchsorted(places, bounds).tolist()
    return table.set_column(column, table.schema.field(column), pa.array(offsets[places])), list(
        pairwise(cuts)
    )


def decode_json(messages: Sequence[bytes], offsets: Ints, source: Source) -> Decoded:
    """JSON objects, one a message; the payload of a letter is the message as it came.

    A topic's are read as structs, which costs the least, in a process that does nothing else (reader_process.py); a
    file's by Arrow, on all cores.
    """
    reader = json_messages.read if source.kafka is None else json_structs.read
    parts, broken = reader(messages, source)
    decoded = each(
        lambda part: _decode_columns(
            part.columns, offsets[part.rows], source, _Messages(messages, part.rows, source)
        ),
        parts,
    )
    refused = letters.to_table(
        [Letter(int(offsets[row]), reason, detail, messages[row]) for row, reason, detail in broken]
    )
    rows = pa.concat_tables([one.rows for one in decoded] or [schema_of(source).empty_table()])
    place = rows.column("_offset").to_numpy()
    return Decoded(
        rows if (place[1:] > place[:-1]).all() else rows.sort_by("_offset"),
        letters.join([refused, *(one.letters for one in decoded)]),
    )


def decode_table(table: Any, offsets: Ints, source: Source) -> Decoded:
    """A table as a file holds it: a column's path is the name of a column, dots and all, or leads through
    structs.

    A column that the table has not is null. The payload of a letter is the row as JSON, so that it can be
    replayed.
    """
    columns = {name: _at_path(table, path) for name, path in source.paths.items()}
    return _decode_columns(columns, offsets, source, _Rows(columns, source))


def schema_of(source: Source) -> Any:
    """The schema of `Decoded.rows`."""
    columns = [pa.field(name, arrow_type(column_type)) for name, column_type in source.columns.items()]
    return pa.schema([*columns, pa.field("_offset", pa.int64())])


class _Origin(Protocol):
    """What came: for letters, which say it as it stood there, however it was read."""

    def payloads(self, rows: Ints) -> list[bytes]: ...

    def text(self, row: int, name: str) -> str:
        """The value of a column."""


class _Messages(NamedTuple):
    every: Sequence[bytes]
    rows: Ints
    source: Source

    def payloads(self, rows: Ints) -> list[bytes]:
        return [self.every[row] for row in self.rows[rows]]

    def text(self, row: int, name: str) -> str:
        return text_at(self.every[self.rows[row]], self.source.paths[name])


class _Rows(NamedTuple):
    columns: Mapping[str, Any]
    source: Source

    def payloads(self, rows: Ints) -> list[bytes]:
        return payloads(self.columns, self.source, rows)

    def text(self, row: int, name: str) -> str:
        return as_text(self.columns[name][row])


def _decode_columns(columns: Mapping[str, Any], offsets: Ints, source: Source, origin: _Origin) -> Decoded:
    """Rows that fit, and a letter for each that does not, about its first column that is wrong."""
    fitted: list[Any] = []
    names = list(source.columns)
    wrong_type, missing = (np.full(len(offsets), len(names)) for _ in range(2))
    for index, (name, column_type) in enumerate(source.columns.items()):
        values, misfits = fit(columns[name], column_type, source.formats.get(name, ISO8601))
        fitted.append(values)
        if misfits.any():
            wrong_type[misfits] = np.minimum(wrong_type[misfits], index)
        if name in source.not_null and values.null_count:
            empty = values.is_null().to_numpy(zero_copy_only=False) & ~misfits
            missing[empty] = np.minimum(missing[empty], index)
    first = np.where(wrong_type < len(names), wrong_type, missing)
    rows = pa.table([*fitted, pa.array(offsets, pa.int64())], schema=schema_of(source))
    bad: Bools = first < len(names)
    if not bad.any():
        return Decoded(rows, letters.NO_LETTERS)
    at = np.flatnonzero(bad)
    refused = [
        _refusal(origin, source, int(row), names[first[row]], bool(wrong_type[row] < len(names)))
        for row in at
    ]
    found = [
        Letter(int(offsets[row]), reason, detail, payload)
        for row, (reason, detail), payload in zip(at, refused, origin.payloads(at), strict=True)
    ]
    return Decoded(rows.filter(pa.array(~bad)), letters.to_table(found))


def _refusal(origin: _Origin, source: Source, row: int, name: str, misfit: bool) -> tuple[Reason, str]:
    if not misfit:
        return Reason.NULL, f"column '{name}' is null"
    return (
        Reason.WRONG_TYPE,
        f"column '{name}': {shown(origin.text(row, name))} is not {source.columns[name]}",
    )


def _at_path(table: Any, path: tuple[str, ...]) -> Any:
    """The column at a path: nulls where there is none, and structs, which fit nothing, where it leads
    nowhere.
    """
    whole = ".".join(path)
    if whole in table.column_names:
        return _column(table, whole)
    if len(path) == 1 or path[0] not in table.column_names:
        return pa.nulls(table.num_rows)
    here = _column(table, path[0])
    for name in path[1:]:
        if not pa.types.is_struct(here.type):
            return pc.if_else(here.is_valid(), pc.make_struct(here), None)
        if here.type.get_field_index(name) < 0:
            return pa.nulls(table.num_rows)
        here = pc.struct_field(here, name)
    return here


def _column(table: Any, name: str) -> Any:
    return table.column(name).combine_chunks()
