"""JSON messages as Arrow columns, as they stand there: no number loses a digit, no value becomes another.

Arrow's own reader keeps the text of every number until it is asked for a type, and refuses a whole block
where one value is of another kind. So messages are read in three ways, each for those that the one before
refused: a block with the kinds that the schema suggests; by groups of messages with the same kinds, as orjson
sees them; one by one.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.json

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.exponents import exponents
from featureflow_cli.sources.json_depth import DEEPEST, depth, long_enough, may_be_deep
from featureflow_cli.sources.json_kinds import (
    UNREADABLE,
    Kinds,
    Signature,
    kind_of,
    kinds_by_type,
    types_of,
    usual_kind,
)
from featureflow_cli.sources.json_paths import misfit_at, value_at
from featureflow_cli.sources.letters import NO_VALUE, Reason, shown
from featureflow_cli.sources.literals import ISO8601, Misfit, fit_json, json_text, read_json
from featureflow_cli.sources.parallel import each
from featureflow_cli.spec.types import arrow_type

BLOCK_MESSAGES = 8192
BLOCK_BYTES = 64 << 20
FEWEST_ALIKE = 16
"""Fewer messages of the same kinds are not worth a block of their own."""
OPEN, CLOSE = b'{"v":', b"}\n"

Rows = npt.NDArray[np.int64]
NONE: Rows = np.empty(0, np.int64)


class Part(NamedTuple):
    """Columns by name, of the messages `rows`."""

    rows: Rows
    columns: Mapping[str, Any]


class Broken(NamedTuple):
    """A message that is no event."""

    row: int
    reason: Reason
    detail: str


class Block(NamedTuple):
    """Messages side by side, and in what types most of them were read."""

    parts: list[Part]
    broken: list[Broken]
    likely: Kinds


def read(messages: Sequence[bytes], source: Source) -> tuple[list[Part], list[Broken]]:
    """Every message is in one of the parts or broken; a missing field is null, undeclared ones are ignored."""
    usual = _usual(source)
    sizes = np.fromiter(map(len, messages), np.int64, len(messages))
    spans = block_spans(sizes)

    def block(span: tuple[int, int], likely: Kinds) -> Block:
        return _read_span(messages, sizes, span, (likely, usual), source)

    first = [block(span, usual) for span in spans[:1]]  # it tells what kinds the others are likely to be of
    blocks = first + each(lambda span: block(span, first[0].likely), spans[1:])
    return [part for one in blocks for part in one.parts], [row for one in blocks for row in one.broken]


def _read_span(
    messages: Sequence[bytes],
    sizes: Rows,
    span: tuple[int, int],
    kinds: tuple[Kinds, Kinds],
    source: Source,
) -> Block:
    """One block; `kinds` are those that its values are likely to be of, and the usual ones."""
    start, stop = span
    likely, usual = kinds
    left = [row for row in long_enough(sizes, start, stop) if may_be_deep(messages[row])]
    rows = sorted({*range(start, stop)} - {*left}) if left else range(start, stop)
    parts, refused, aside = _read_block(messages, rows, likely, source)
    left += aside
    for signature, alike in _alike(messages, refused, source).items():
        read = types_of(signature, usual)
        if len(alike) < FEWEST_ALIKE or read is None:
            left += alike
            continue
        part, refused_again, aside = _read_block(messages, alike, read, source)
        parts += part
        left += [*refused_again, *aside]
        if part and 2 * len(alike) > stop - start:
            likely = read
    broken: list[Broken] = []
    if left:
        singly, broken = _read_singly(messages, sorted(left), source)
        parts.append(singly)
    return Block(parts, broken, likely)


def _usual(source: Source) -> Kinds:
    return tuple(usual_kind(kind, source.formats.get(name)) for name, kind in source.columns.items())


def block_spans(sizes: Rows) -> list[tuple[int, int]]:
    """Spans of at most BLOCK_MESSAGES and about BLOCK_BYTES."""
    bounds = [*range(0, len(sizes), BLOCK_MESSAGES), len(sizes)]
    spans: list[tuple[int, int]] = []
    for start, stop in pairwise(bounds):
        pieces = np.cumsum(sizes[start:stop]) // BLOCK_BYTES
        cuts = (np.flatnonzero(np.diff(pieces)) + 1 + start).tolist()
        spans += zip([start, *cuts], [*cuts, stop], strict=True)
    return spans


def _read_block(
    messages: Sequence[bytes], rows: Sequence[int], kinds: Kinds, source: Source
) -> tuple[list[Part], Sequence[int], list[int]]:
    """(the messages `rows` as one part, those refused, those not to be read in a block).

    Either the part or the refused are all but the last. Each message is wrapped as `{"v":MESSAGE}`: what is
    one object only together with its neighbours, or more than one, is then never taken for as many messages
    as there are.
    """
    schema = schema_of(kinds, source)
    if schema is None:
        return [], rows, []
    block = _wrapped(messages, rows)
    aside = _unreadable_decimals(block, messages, rows, kinds)
    if aside:
        rows = sorted(set(rows) - set(aside))
        block = _wrapped(messages, rows)
    if not rows:
        return [], [], aside
    try:
        str(block, "utf-8")  # Arrow does not look
        table = pyarrow.json.read_json(
            pa.BufferReader(block),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return [], rows, aside
    values = table.column("v").combine_chunks()
    if len(values) != len(rows) or values.null_count:
        return [], rows, aside
    columns = {name: pa.compute.struct_field(values, list(path)) for name, path in source.paths.items()}
    held = np.arange(rows.start, rows.stop) if isinstance(rows, range) else np.array(rows, np.int64)
    return [Part(held, columns)], [], aside


def _wrapped(messages: Sequence[bytes], rows: Sequence[int]) -> bytes:
    some = messages[rows.start : rows.stop] if isinstance(rows, range) else [messages[row] for row in rows]
    return OPEN + (CLOSE + OPEN).join(some) + CLOSE


def _unreadable_decimals(
    block: bytes, messages: Sequence[bytes], rows: Sequence[int], kinds: Kinds
) -> list[int]:
    """The rows of a wrapped block whose exponents Arrow's decimals do not read rightly."""
    decimals = [kind for kind in map(_innermost, kinds) if pa.types.is_decimal(kind)]
    if not decimals:
        return []
    found = exponents(block, negative_only=not any(pa.types.is_decimal256(kind) for kind in decimals))
    if not found.size:
        return []
    sizes = np.fromiter((len(messages[row]) for row in rows), np.int64, len(rows))
    ends = np.cumsum(sizes + len(OPEN + CLOSE))
    return [rows[index] for index in np.unique(np.searchsorted(ends, found, side="right")).tolist()]


def _innermost(kind: Any) -> Any:
    return _innermost(kind.value_type) if pa.types.is_list(kind) else kind


def schema_of(kinds: Kinds, source: Source) -> Any:
    """The nested schema of the columns' paths; None where two of them cannot be read at once."""
    tree: dict[str, Any] = {}
    for path, kind in zip(source.paths.values(), kinds, strict=True):
        here = tree
        for parent in path[:-1]:
            here = here.setdefault(parent, {})
            if not isinstance(here, dict):
                return None
        if here.setdefault(path[-1], kind) is not kind and here[path[-1]] != kind:
            return None
    return pa.schema([("v", _struct(tree))])


def _struct(tree: Mapping[str, Any]) -> Any:
    return pa.struct(
        [(name, _struct(below) if isinstance(below, dict) else below) for name, below in tree.items()]
    )


def _alike(messages: Sequence[bytes], rows: Sequence[int], source: Source) -> dict[Signature, list[int]]:
    """Messages by the kinds of their values; those that orjson does not read are under a kind of None."""
    columns = [
        (path, kinds_by_type(column_type, source.formats.get(name)))
        for (name, column_type), path in zip(source.columns.items(), source.paths.values(), strict=True)
    ]
    groups: dict[Signature, list[int]] = {}
    for row in rows:
        try:
            event = orjson.loads(messages[row])
            signature: Signature = tuple(kind_of(value_at(event, path), kinds) for path, kinds in columns)
        except (orjson.JSONDecodeError, Misfit):
            signature = UNREADABLE
        groups.setdefault(signature, []).append(row)
    return groups


def _read_singly(messages: Sequence[bytes], rows: list[int], source: Source) -> tuple[Part, list[Broken]]:
    """The exact way, in pure Python."""
    broken: list[Broken] = []
    held: list[int] = []
    found: list[list[Any]] = []
    for row in rows:
        if not messages[row]:
            broken.append(Broken(row, Reason.UNDECODABLE, NO_VALUE))
            continue
        try:
            text = messages[row].decode()
            if may_be_deep(messages[row]) and depth(text) > DEEPEST:
                broken.append(Broken(row, Reason.UNDECODABLE, f"nested deeper than {DEEPEST} levels"))
                continue
            event = read_json(text)
        except UnicodeDecodeError:
            broken.append(Broken(row, Reason.UNDECODABLE, "not UTF-8"))
            continue
        except ValueError as error:
            broken.append(Broken(row, Reason.UNDECODABLE, f"not JSON: {shown(str(error))}"))
            continue
        if not isinstance(event, dict):
            broken.append(Broken(row, Reason.UNDECODABLE, f"not a JSON object: {shown(json_text(event))}"))
            continue
        values: list[Any] = []
        for (name, column_type), path in zip(source.columns.items(), source.paths.values(), strict=True):
            try:
                value = value_at(event, path)
                values.append(fit_json(value, column_type, source.formats.get(name, ISO8601)))
            except Misfit:
                break
        if len(values) < len(source.columns):
            broken.append(Broken(row, Reason.WRONG_TYPE, misfit_at(event, name, column_type, path)))
        else:
            held.append(row)
            found.append(values)
    columns = {
        name: pa.array([values[index] for values in found], arrow_type(column_type))
        for index, (name, column_type) in enumerate(source.columns.items())
    }
    return Part(np.array(held, np.int64), columns), broken
