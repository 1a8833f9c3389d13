"""JSON messages as structs of the fields that a source declares: the fast way, in which nothing is taken on trust.

msgspec refuses what is no JSON, and every value that is not of the very kind that was asked for: text as text, whole
numbers as whole numbers. It makes another of one kind only, a double of a whole number, and that is the nearest one.
What it refuses, `json_messages` reads; and so what msgspec does not look at or not tell apart: bytes that are no
UTF-8, brackets too deep, a zero that may be `-0`.

It costs less than Arrow's reader, and holds Python's lock, which that one does not: it is for a process of its own.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from featureflow_cli.compute.views import Source
from featureflow_cli.sources import json_messages
from featureflow_cli.sources.arrays import Bools
from featureflow_cli.sources.json_depth import long_enough, may_be_deep
from featureflow_cli.sources.json_kinds import usual_kind
from featureflow_cli.sources.json_messages import NONE, Broken, Part
from featureflow_cli.sources.literals import MAX_INT64, MIN_INT64

Path = tuple[str, ...]
Of = Callable[[list[Any]], list[Any]]
"""The values of one field of so many structs."""
TRIED, FEW = 64, 8
"""Messages of which more than FEW of the first TRIED are refused are not worth the try."""
_MINUS_ZERO = re.compile(rb"-0(?![0-9.eE])")
_KINDS: dict[Any, Any] = {
    pa.string(): str,
    pa.int64(): Annotated[int, msgspec.Meta(ge=MIN_INT64, le=MAX_INT64)],
    pa.float64(): float,
    pa.bool_(): bool,
}


class Fields(NamedTuple):
    """What is in a struct: values of an Arrow type, by their path, and other structs; `missing` has none of them."""

    values: list[tuple[Path, Of, Any]]
    structs: "list[tuple[Of, Fields]]"
    missing: Any


class Shape(NamedTuple):
    """`decode` makes a struct of a message, or refuses it."""

    decode: Callable[[bytes], Any]
    fields: Fields


def read(messages: Sequence[bytes], source: Source) -> tuple[list[Part], list[Broken]]:
    """What `json_messages.read` says of them."""
    shape = shape_of(source)
    if shape is None or len(_structs(messages[:TRIED], shape)[1]) > FEW:
        return json_messages.read(messages, source)
    parts, refused = [], []
    sizes = np.fromiter(map(len, messages), np.int64, len(messages))
    for start, stop in json_messages.block_spans(sizes):
        is_deep = [row - start for row in long_enough(sizes, start, stop) if may_be_deep(messages[row])]
        taken, columns = _take(messages[start:stop], is_deep, shape)
        rows = np.arange(start, stop)
        held = {name: columns[path] for name, path in source.paths.items()}
        parts.append(Part(rows[taken], held))
        refused.append(rows[~taken])
    left = np.concatenate([NONE, *refused])
    if not left.size:
        return parts, []
    others, broken = json_messages.read([messages[row] for row in left.tolist()], source)
    return (
        [*parts, *(Part(left[part.rows], part.columns) for part in others)],
        [each._replace(row=int(left[each.row])) for each in broken],
    )


@lru_cache(maxsize=64)
def shape_of(source: Source) -> Shape | None:
    """The shape of a source's messages, decimals as text; None where msgspec has none for its columns."""
    usual = (usual_kind(kind, source.formats.get(name)) for name, kind in source.columns.items())
    schema = json_messages.schema_of(
        tuple(pa.string() if pa.types.is_decimal(kind) else kind for kind in usual), source
    )
    if schema is None:
        return None
    try:
        struct, fields = _struct(schema.field("v").type, ())
    except (KeyError, ValueError):  # a type that _KINDS has not, or a name that cannot stand in a struct
        return None
    return Shape(msgspec.json.Decoder(struct).decode, fields)


def _struct(kind: Any, path: Path) -> tuple[Any, Fields]:
    """A class of structs with these fields, and what is in it. Fields are called f0, f1, …: theirs may be any text."""
    values, structs, kinds, names = [], [], [], {}
    for place, field in enumerate(kind):
        name, below = f"f{place}", (*path, field.name)
        names[name] = field.name
        if pa.types.is_struct(field.type):
            inner, fields = _struct(field.type, below)
            structs.append((_of(name), fields))
        else:
            inner = _KINDS[field.type]
            values.append((below, _of(name), field.type))
        kinds.append((name, inner | None, None))
    struct = msgspec.defstruct("Event", kinds, rename=names, gc=False)
    return struct, Fields(values, structs, struct())


def _of(name: str) -> Of:
    """As code of its own: twice as fast as any getter."""
    of: Of = eval(f"lambda structs: [each.{name} for each in structs]")  # noqa: S307  (the name is one of _struct's)
    return of


def _take(
    messages: Sequence[bytes], is_deep: Sequence[int], shape: Shape
) -> tuple[Bools, Mapping[Path, Any]]:
    """(which messages are read, the columns of those by path)."""
    taken = np.ones(len(messages), np.bool_)
    taken[is_deep] = False
    if not all(map(bytes.isascii, messages)):
        taken[[row for row, message in enumerate(messages) if not _is_utf8(message)]] = False
    structs, refused = _structs(messages if taken.all() else list(compress(messages, taken)), shape)
    rows = np.flatnonzero(taken)
    taken[rows[refused]] = False
    rows = np.delete(rows, refused)
    columns = dict(_columns(structs, shape.fields))
    zeros = [at for at in _zeros(columns.values()) if _MINUS_ZERO.search(messages[rows[at]])]
    if zeros:
        taken[rows[zeros]] = False
        kept = pa.array(np.delete(np.arange(len(rows)), zeros))
        columns = {path: column.take(kept) for path, column in columns.items()}
    return taken, columns


def _structs(messages: Sequence[bytes], shape: Shape) -> tuple[list[Any], list[int]]:
    """(structs of the messages that are not refused, places of those that are)."""
    structs: list[Any] = []
    refused: list[int] = []
    left = iter(messages)
    while True:
        try:
            structs.extend(map(shape.decode, left))  # those before one that is refused stay
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            refused.append(len(structs) + len(refused))
        else:
            return structs, refused


def _columns(structs: list[Any], fields: Fields) -> Iterator[tuple[Path, Any]]:
    for path, of, kind in fields.values:
        yield path, pa.array(of(structs), kind)
    for of, below in fields.structs:
        yield from _columns([struct or below.missing for struct in of(structs)], below)


def _zeros(columns: Iterable[Any]) -> list[int]:
    """Where a double is zero, and not written with a point or an exponent if it is a negative one."""
    found: set[int] = set()
    for column in columns:
        if pa.types.is_floating(column.type):
            values = column.to_numpy(zero_copy_only=False)
            found.update(np.flatnonzero((values == 0) & ~np.signbit(values)).tolist())
    return sorted(found)


def _is_utf8(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
