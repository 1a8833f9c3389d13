"""Entities in a batch: join keys as dense indexes, and as the ids that stores know."""

from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.codes import Ints, code, ranked
from featureflow_cli.spec.types import ColumnType, Value

_UNSAFE = r"[^A-Za-z0-9_.~-]"


def dense(keys: list[Any], types: list[ColumnType]) -> tuple[Ints, list[Any]]:
    """(index of each row's entity, the distinct keys as one Arrow array per join key), in order of the keys.

    `keys` holds one Arrow array per join key, without nulls.
    """
    combined = np.zeros(len(keys[0]), np.int64)
    for array, column_type in zip(keys, types, strict=True):
        distinct, index = ranked(code(array, column_type).codes)
        combined = index if len(keys) == 1 else ranked(combined * len(distinct) + index)[1]
    first = np.empty(int(combined.max(initial=-1)) + 1, np.int64)
    first[combined[::-1]] = np.arange(len(combined))[::-1]  # of equal ones the last assignment stays
    return combined, [_array(array).take(pa.array(first)) for array in keys]


def entity_ids(keys: list[Any]) -> list[str]:
    """The id of each row's entity: its join keys in declared order, percent-encoded, joined by `,`."""
    parts = [_encoded(_array(array)) for array in keys]
    if len(parts) == 1:
        return parts[0]
    return [",".join(values) for values in zip(*parts, strict=True)]


def entity_id(keys: tuple[Value, ...]) -> str:
    """The same for one entity."""
    return ",".join(quote(str(key).lower() if isinstance(key, bool) else str(key), safe="") for key in keys)


def _encoded(array: Any) -> list[str]:
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.int64())  # as values are: microseconds, and days
    elif pa.types.is_date(array.type):
        array = array.cast(pa.int32())
    texts = array.cast(pa.string())
    if pa.types.is_string(array.type) and pc.any(pc.match_substring_regex(texts, _UNSAFE)).as_py():
        return [quote(text, safe="") for text in texts.to_pylist()]
    return texts.to_pylist()  # type: ignore[no-any-return]


def _array(array: Any) -> Any:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
