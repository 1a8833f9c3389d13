"""Codes: every scalar value as an order-preserving int64, so that one kind of array holds all state.

| type | code |
|---|---|
| bool, int64, date, timestamp | the number itself |
| decimal(p<=18, s) | the unscaled number |
| double | its bits, negative ones mirrored; -0.0 is 0.0; NaN and infinity are null |
| string | its index in a sorted table of texts (order of UTF-8 bytes) |
| decimal(p>18, s) | the same, of `wide_text`: zero-padded, so that text order is number order |
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.spec.types import ColumnType, arrow_type

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

NO_TEXTS: Any = pa.nulls(0, pa.string())  # pa.array would import pandas where there is one: 0.3 s
_MIRROR = np.int64(2**63 - 1)
_WIDE_OFFSET = 10**38
_SPAN = 8
"""Codes that span up to so many times their number are ranked in a table."""
LIMB_BITS = 32
LIMB_MASK = np.int64(2**32 - 1)


@dataclass(frozen=True)
class Coded:
    """A column as codes: `codes` and `valid` of one length; `texts` sorted and unique, where the type is text-coded.

    `words` holds the (low, high) 64-bit words of wide decimals, for exact sums.
    """

    codes: Ints
    valid: Bools
    texts: Any = field(default_factory=lambda: NO_TEXTS)
    words: npt.NDArray[np.uint64] | None = None

    def take(self, rows: Ints | Bools | slice) -> "Coded":
        words = None if self.words is None else self.words[rows]
        return Coded(self.codes[rows], self.valid[rows], self.texts, words)


def is_text_coded(column_type: ColumnType) -> bool:
    return column_type.name == "string" or column_type.is_wide


def code(array: Any, column_type: ColumnType) -> Coded:
    """Codes of an Arrow array (or chunked array) that holds values of `column_type`."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    target = arrow_type(column_type)
    if array.type != target:
        array = array.cast(target)
    valid = np.ones(len(array), np.bool_) if array.null_count == 0 else _bools(array.is_valid())
    if column_type.name == "string":
        return _code_texts(array, valid)
    if column_type.name == "decimal":
        words = _decimal_words(array)
        if column_type.is_wide:
            texts = [
                wide_text(number) if known else None
                for number, known in zip(_integers(words), valid, strict=True)
            ]
            coded = _code_texts(pa.array(texts, pa.string()), valid)
            return Coded(coded.codes, valid, coded.texts, words)
        return Coded(np.where(valid, words[:, 0].view(np.int64), 0), valid)
    if column_type.name == "double":
        numbers = np.asarray(pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False), np.float64)
        finite = np.isfinite(numbers)
        return Coded(double_codes(np.where(finite, numbers, 0.0)), valid & finite)
    if column_type.name == "bool":
        return Coded(_bools(pc.fill_null(array, False)).astype(np.int64), valid)
    if column_type.name == "date":
        array = array.cast(pa.int32())
    integers = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return Coded(np.asarray(integers, np.int64), valid)


def uncode(codes: Ints, valid: Bools, column_type: ColumnType, texts: Any = NO_TEXTS) -> Any:
    """The Arrow array whose codes these are; null where not `valid`."""
    target = arrow_type(column_type)
    if is_text_coded(column_type):
        values = texts.take(pa.array(codes, pa.int64(), mask=~valid))
        return values if column_type.name == "string" else _wide_decimals(values, column_type)
    if column_type.name == "decimal":
        return decimals(codes.view(np.uint64), codes >> 63, valid, column_type)
    if column_type.name == "double":
        return pa.array(code_doubles(codes), target, mask=~valid)
    if column_type.name == "bool":
        return pa.array(codes != 0, target, mask=~valid)
    if column_type.name == "date":
        return pa.array(codes.astype(np.int32), pa.int32(), mask=~valid).cast(target)
    return pa.array(codes, pa.int64(), mask=~valid).cast(target)


def double_codes(numbers: Doubles) -> Ints:
    """Order-preserving codes of finite doubles."""
    bits = (numbers + 0.0).view(np.int64)
    return np.where(bits < 0, bits ^ _MIRROR, bits)


def code_doubles(codes: Ints) -> Doubles:
    return np.where(codes < 0, codes ^ _MIRROR, codes).view(np.float64)


def ranked(codes: Ints) -> tuple[Ints, Ints]:
    """(the distinct codes in ascending order, the place of each code among them).

    In a table of all codes where these lie close together, else by hashing, at half of a sort.
    """
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    if high - low < _SPAN * len(codes):
        there = np.zeros(high - low + 1, np.int64)
        there[codes - low] = 1
        return np.flatnonzero(there) + low, (np.cumsum(there) - 1)[codes - low]
    encoded = pa.array(codes).dictionary_encode()
    found = encoded.dictionary.to_numpy()
    order = np.argsort(found)
    rank = np.empty(len(found), np.int64)
    rank[order] = np.arange(len(found))
    return found[order], rank[encoded.indices.to_numpy()]


def numbers(coded: Coded, column_type: ColumnType) -> Doubles:
    """A numeric column as doubles; whatever where it is null."""
    if column_type.name == "double":
        return code_doubles(coded.codes)
    if coded.words is not None:
        return limb_doubles(limbs(coded)) / 10.0**column_type.scale
    return coded.codes / 10.0**column_type.scale if column_type.scale else coded.codes.astype(np.float64)


def limbs(coded: Coded) -> tuple[Ints, ...]:
    """The 32-bit limbs of an exact column, lowest first; the last one carries the sign (two, or four if wide)."""
    if coded.words is None:
        return coded.codes & LIMB_MASK, coded.codes >> LIMB_BITS
    low, high = coded.words[:, 0].view(np.int64), coded.words[:, 1].view(np.int64)
    return low & LIMB_MASK, (low >> LIMB_BITS) & LIMB_MASK, high & LIMB_MASK, high >> LIMB_BITS


def carry(parts: Sequence[Ints]) -> list[Ints]:
    """Sums of limbs, lowest first, with every limb but the last brought into [0, 2^32)."""
    carried, over = [], np.zeros(len(parts[0]), np.int64)
    for part in parts[:-1]:
        total = part + over
        carried.append(total & LIMB_MASK)
        over = total >> LIMB_BITS
    return [*carried, parts[-1] + over]


def limb_doubles(parts: Sequence[Ints]) -> Doubles:
    """Sums of limbs as doubles. A negative one goes by its magnitude, so that no two large limbs cancel."""
    negative = carry(parts)[-1] < 0
    magnitude = carry([np.where(negative, -part, part) for part in parts])
    total = np.zeros(len(negative))
    for part in reversed(magnitude):
        total = total * 2.0**LIMB_BITS + part
    return np.where(negative, -total, total)


def decimals(low: npt.NDArray[np.uint64], high: Ints, valid: Bools, column_type: ColumnType) -> Any:
    """A decimal128 array from the two words of its unscaled numbers."""
    words = np.empty((len(low), 2), np.uint64)
    words[:, 0], words[:, 1] = low, high.view(np.uint64)
    validity = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    return pa.Array.from_buffers(arrow_type(column_type), len(low), [validity, pa.py_buffer(words)])


def wide_text(unscaled: int) -> str:
    """39 digits whose text order is the order of the numbers."""
    return f"{unscaled + _WIDE_OFFSET:039d}"


def merge_texts(tables: list[Any]) -> tuple[Any, list[Ints]]:
    """One sorted table of all texts, and for each table where its entries went: new = moved[old]."""
    filled = [table for table in tables if len(table)]
    if not filled:
        return NO_TEXTS, [np.empty(0, np.int64) for _ in tables]
    if all(table is filled[0] for table in filled[1:]) and _is_sorted(filled[0]):
        return filled[0], [np.arange(len(table), dtype=np.int64) for table in tables]
    together = _code_texts(pa.concat_arrays(filled), np.ones(sum(map(len, filled)), np.bool_))
    bounds = np.cumsum([0, *map(len, tables)])
    return together.texts, [together.codes[start:end] for start, end in pairwise(bounds.tolist())]


def _is_sorted(texts: Any) -> bool:
    """Sorted and without repeats, as every table but the joined ones of several blobs is."""
    return len(texts) < 2 or bool(pc.all(pc.less(texts[:-1], texts[1:])).as_py())


def _code_texts(array: Any, valid: Bools) -> Coded:
    encoded = array.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy(zero_copy_only=False)] = np.arange(len(order))
    indices = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
    codes = rank[indices] if len(order) else np.zeros(len(array), np.int64)
    return Coded(codes, valid, encoded.dictionary.take(order))


def _decimal_words(array: Any) -> npt.NDArray[np.uint64]:
    values = np.frombuffer(array.buffers()[1], np.uint64).reshape(-1, 2)
    return values[array.offset : array.offset + len(array)]


def _integers(words: npt.NDArray[np.uint64]) -> list[int]:
    highs = words[:, 1].view(np.int64).tolist()
    return [(high << 64) | low for low, high in zip(words[:, 0].tolist(), highs, strict=True)]


def _wide_decimals(texts: Any, column_type: ColumnType) -> Any:
    integers = [None if text is None else int(text) - _WIDE_OFFSET for text in texts.to_pylist()]
    valid = np.array([integer is not None for integer in integers], np.bool_)
    low = np.array([(integer or 0) & (2**64 - 1) for integer in integers], np.uint64)
    high = np.array([(integer or 0) >> 64 for integer in integers], np.int64)
    return decimals(low, high, valid, column_type)


def _bools(array: Any) -> Bools:
    return np.asarray(array.to_numpy(zero_copy_only=False), np.bool_)
