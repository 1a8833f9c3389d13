"""JSON messages as Arrow columns, as they stand there: no number loses a digit, no value changes its kind
silently.

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
from featureflow_cli.sources.letters import Reason, shown
from featureflow_cli.sources.literals import ISO8601, MAX_INT64, Misfit, fit_json, read_json
from featureflow_cli.spec.types import ColumnType, arrow_type

BLOCK_MESSAGES = 8192
BLOCK_BYTES = 64 << 20
FEWEST_ALIKE = 16
"""Fewer messages of the same kinds are not worth a block of their own."""
ANY_NUMBER = pa.decimal256(76, 38)
"""Holds every number that fits any exact type, and refuses the others: nothing is rounded."""

Rows = npt.NDArray[np.int64]
USUAL, TEXT, NUMBER, INTEGER = "usual", "text", "number", "integer"
ZERO = "zero"
Signature = tuple[str | None, ...]
"""As what each column's value is read: one of the above; None where only its text tells."""
UNREADABLE: Signature = (None,)
Kinds = tuple[Any, ...]
"""The Arrow type in which each column is read."""


class Part(NamedTuple):
    """Columns by name, of the messages `rows`."""

    rows: Rows
    columns: Mapping[str, Any]


class Broken(NamedTuple):
    """A message that is no event."""

    row: int
    reason: Reason
    detail: str


def read(messages: Sequence[bytes], source: Source) -> tuple[list[Part], list[Broken]]:
    """Every message is in one of the parts or broken; a missing field is null, undeclared ones are ignored."""
    parts: list[Part] = []
    broken: list[Broken] = []
    usual = tuple(_usual_kind(kind, source.formats.get(name)) for name, kind in source.columns.items())
    likely = usual
    for start, stop in _blocks(messages):
        rows = np.arange(start, stop)
        columns = _read_block(messages[start:stop], likely, source)
        if columns is not None:
            parts.append(Part(rows, columns))
            continue
        left: list[int] = []
        for signature, alike in _alike(messages, rows, source).items():
            kinds = _types(signature, usual)
            columns = None
            if len(alike) >= FEWEST_ALIKE and kinds is not None:
                columns = _read_block([messages[row] for row in alike], kinds, source)
            if columns is None:
                left += alike
            else:
                parts.append(Part(np.array(alike), columns))
                if kinds is not None and 2 * len(alike) > stop - start:
                    likely = kinds
        if left:
            part, bad = _read_singly(messages, sorted(left), source)
            parts.append(part)
            broken += bad
    return parts, broken


def _blocks(messages: Sequence[bytes]) -> list[tuple[int, int]]:
    """Spans of at most BLOCK_MESSAGES and about BLOCK_BYTES."""
    bounds = [*range(0, len(messages), BLOCK_MESSAGES), len(messages)]
    sizes = np.fromiter(map(len, messages), np.int64, len(messages))
    spans: list[tuple[int, int]] = []
    for start, stop in pairwise(bounds):
        pieces = np.cumsum(sizes[start:stop]) // BLOCK_BYTES
        cuts = (np.flatnonzero(np.diff(pieces)) + 1 + start).tolist()
        spans += zip([start, *cuts], [*cuts, stop], strict=True)
    return spans


def _read_block(messages: Sequence[bytes], kinds: Kinds, source: Source) -> dict[str, Any] | None:
    """The columns of all messages in the given types, or None where one of them is not of those kinds.

    Each message is wrapped as `{"v":MESSAGE}`: what is one object only together with its neighbours, or more
    than one, is then never taken for as many messages as there are.
    """
    schema = _schema(kinds, source)
    if schema is None:
        return None
    block = b'{"v":' + b'}\n{"v":'.join(messages) + b"}"
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
        return None
    values = table.column("v").combine_chunks()
    if len(values) != len(messages) or values.null_count:
        return None
    return {name: pa.compute.struct_field(values, list(path)) for name, path in source.paths.items()}


def _schema(kinds: Kinds, source: Source) -> Any:
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


def _usual_kind(column_type: ColumnType, timestamp_format: str | None) -> Any:
    """In what type a column is read where its values are of the kind that its type suggests."""
    if column_type.element is not None:
        return pa.list_(_usual_kind(column_type.element, timestamp_format))
    match column_type.name:
        case "timestamp" if timestamp_format not in (None, ISO8601):
            return pa.int64()
        case "timestamp" | "date":
            return pa.string()
        case _:
            return arrow_type(column_type)


def _alike(messages: Sequence[bytes], rows: Rows, source: Source) -> dict[Signature, list[int]]:
    """Messages by the kinds of their values; those that orjson does not read are under a kind of None."""
    columns = [
        (path, _kinds(column_type, source.formats.get(name)))
        for (name, column_type), path in zip(source.columns.items(), source.paths.values(), strict=True)
    ]
    groups: dict[Signature, list[int]] = {}
    for row in rows.tolist():
        try:
            event = orjson.loads(messages[row])
            signature: Signature = tuple(_kind(_at(event, path), kinds) for path, kinds in columns)
        except (orjson.JSONDecodeError, Misfit):
            signature = UNREADABLE
        groups.setdefault(signature, []).append(row)
    return groups


def _kinds(column_type: ColumnType, timestamp_format: str | None) -> dict[object, str]:
    """As what a value is read without a loss, by its Python type; what is not among them is read by itself."""
    if column_type.element is not None:
        return {type(None): USUAL, list: USUAL}
    kinds: dict[object, str] = {type(None): USUAL, str: TEXT}
    match column_type.name:
        case "bool":
            kinds[bool] = USUAL
        case "int64":
            kinds |= {int: USUAL, ZERO: USUAL, float: NUMBER}
        case "double":
            kinds |= {int: USUAL, ZERO: USUAL, float: USUAL}
        case "string":
            kinds |= {int: INTEGER}  # but not zero: `-0` is another text
        case "decimal":
            kinds |= {int: NUMBER, ZERO: NUMBER, float: NUMBER}
        case "timestamp" if timestamp_format != ISO8601:
            kinds |= {int: NUMBER, ZERO: NUMBER, float: NUMBER}
    return kinds


def _kind(value: object, kinds: Mapping[object, str]) -> str | None:
    if type(value) is int:
        if not value:
            return kinds.get(ZERO)
        return kinds.get(int if value <= MAX_INT64 else float)  # orjson reads up to 2^64
    return kinds.get(type(value))


def _types(signature: Signature, usual: Kinds) -> Kinds | None:
    """The Arrow types in which messages of that signature are read at once; None where they cannot be."""
    if None in signature or len(signature) != len(usual):
        return None
    read = {TEXT: pa.string(), NUMBER: ANY_NUMBER, INTEGER: pa.int64()}
    return tuple(read.get(str(kind), usually) for kind, usually in zip(signature, usual, strict=True))


def _read_singly(messages: Sequence[bytes], rows: list[int], source: Source) -> tuple[Part, list[Broken]]:
    """The exact way, in pure Python."""
    broken: list[Broken] = []
    held: list[int] = []
    found: list[list[Any]] = []
    for row in rows:
        try:
            event = read_json(messages[row].decode())
        except UnicodeDecodeError:
            broken.append(Broken(row, Reason.UNDECODABLE, "not UTF-8"))
            continue
        except ValueError as error:
            broken.append(Broken(row, Reason.UNDECODABLE, f"not JSON: {shown(str(error))}"))
            continue
        except RecursionError:
            broken.append(Broken(row, Reason.UNDECODABLE, "nested too deep"))
            continue
        if not isinstance(event, dict):
            broken.append(Broken(row, Reason.UNDECODABLE, f"not a JSON object: {shown(event)}"))
            continue
        values: list[Any] = []
        for (name, column_type), path in zip(source.columns.items(), source.paths.values(), strict=True):
            try:
                value = _at(event, path)
                values.append(fit_json(value, column_type, source.formats.get(name, ISO8601)))
            except Misfit:
                break
        if len(values) < len(source.columns):
            broken.append(Broken(row, Reason.WRONG_TYPE, _misfit(event, name, column_type, path)))
        else:
            held.append(row)
            found.append(values)
    columns = {
        name: pa.array([values[index] for values in found], arrow_type(column_type))
        for index, (name, column_type) in enumerate(source.columns.items())
    }
    return Part(np.array(held, np.int64), columns), broken


def _at(event: Any, path: Sequence[str]) -> Any:
    """The value at a path; None where a field is missing or null, Misfit where one on the way is no object."""
    for name in path:
        if event is None:
            return None
        if not isinstance(event, dict):
            raise Misfit
        event = event.get(name)
    return event


def _misfit(event: Any, name: str, column_type: ColumnType, path: Sequence[str]) -> str:
    try:
        return f"column '{name}': {shown(_written(_at(event, path)))} is not {column_type}"
    except Misfit:
        return f"column '{name}': '{'.'.join(path[:-1])}' is not an object"


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
