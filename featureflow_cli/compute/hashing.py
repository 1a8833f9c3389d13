"""How a key is known: the XXH64 (seed 42) of its canonical text (design.md 1.13).

Integers are their digits, decimals stand at their scale, booleans are `true` and `false`, doubles the
shortest text that reads back as them (Python's `repr`; zero has one sign), timestamps integer microseconds,
dates integer days, text is itself. The hash is ours in every engine, never the engine's own.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import xxhash
from numpy.typing import NDArray

from featureflow_cli.spec.types import Value

if TYPE_CHECKING:
    import pyarrow as pa

SEED = 42
MAX_TEXT_BYTES = 1024
"""To an aggregation that would keep it, a longer text is null (design.md section 2)."""


def canonical_text(value: Value) -> str:
    """The one text of a scalar that is not null; decimals come at their type's scale."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value + 0.0)
    if isinstance(value, Decimal):
        return format(value, "f") if value else format(abs(value), "f")
    if isinstance(value, int):
        return str(value)
    message = f"{value!r} is not a key"
    raise TypeError(message)


def hash_text(text: str) -> int:
    """XXH64 with seed 42 of the UTF-8 bytes: 0 to 2^64 - 1."""
    return xxhash.xxh64_intdigest(text.encode(), seed=SEED)


def key_hash(keys: "pa.Array | pa.ChunkedArray") -> NDArray[np.uint64]:
    """Hash of each key of an Arrow column of any scalar type (distinct values once); 0 for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    coded = column.dictionary_encode()
    distinct = hash_each(coded.dictionary)
    if len(distinct) == 0:
        return np.zeros(len(column), dtype=np.uint64)
    codes = pc.fill_null(coded.indices, 0).to_numpy(zero_copy_only=False)
    return np.where(column.is_valid().to_numpy(zero_copy_only=False), distinct[codes], np.uint64(0))


def hash_each(values: "pa.Array") -> NDArray[np.uint64]:
    """The same of values without nulls; meant for distinct ones."""
    digest = xxhash.xxh64_digest
    digests = b"".join([digest(text, SEED) for text in _spelled(values)])
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _spelled(values: "pa.Array") -> Iterable[bytes]:
    """The canonical text of each, as UTF-8."""
    import pyarrow as pa

    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", tz=values.type.tz)).cast(pa.int64())
    elif pa.types.is_date(values.type):
        values = values.cast(pa.int32())
    if pa.types.is_integer(values.type):
        values = values.cast(pa.string())
    if pa.types.is_string(values.type):
        return values.cast(pa.binary()).to_pylist()  # type: ignore[no-any-return]
    return (canonical_text(value).encode() for value in values.to_pylist())
