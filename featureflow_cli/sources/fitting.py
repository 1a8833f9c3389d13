"""Whether columns fit their declared types: `literals` over whole Arrow columns (design.md 1.9).

Well-formed columns go through Arrow's checked casts. Where a cast refuses, the column is halved until the
refused values lie in few small pieces; those, and all values of which a cast would take more than `literals`
does, are decided one by one by their text.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.sources import literals, moments
from featureflow_cli.sources.arrays import Bools, flags, ints, to_moments, valid
from featureflow_cli.sources.literals import EPOCH_UNITS_US, ISO8601, Misfit
from featureflow_cli.spec.types import MAX_PRECISION, STRING, ColumnType, arrow_type
from featureflow_cli.times import DAY_US

PIECE = 32
"""Pieces of this length are no longer halved."""
EXACT_DOUBLE = 2**53
"""Beyond it a double's own digits say more than its shortest text does."""


class Fit(NamedTuple):
    """`values` in the declared Arrow type, null where the value did not fit; `misfits` says where that was."""

    values: Any
    misfits: Bools


class Tried(NamedTuple):
    """`values` of the target type; those that are `open` were not decided (and are null)."""

    values: Any
    open: Bools


def fit(column: Any, column_type: ColumnType, timestamp_format: str = ISO8601) -> Fit:
    """An Arrow column of any type as one of `column_type`, without rounding anything.

    Null stays null. Numbers, booleans and text fit by their text; a double by its shortest one, and NaN and
    infinity are null. Timestamps without a zone are UTC, finer ones are floored. Structs, maps and binary
    that is not UTF-8 fit nothing, lists only lists.
    """
    array = _plain(column)
    kind, target = array.type, arrow_type(column_type)
    if pa.types.is_null(kind):
        return Fit(pa.nulls(len(array), target), np.zeros(len(array), bool))
    if _is_list(kind):
        return _fit_lists(array, column_type, timestamp_format)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _fit_moments(array, column_type)
    if pa.types.is_binary(kind):
        return _fit_bytes(array, column_type, timestamp_format)
    if pa.types.is_string(kind):
        return _settle(array, _of_text(array, column_type, timestamp_format), column_type, timestamp_format)
    if pa.types.is_floating(kind):
        array = pc.if_else(pc.is_finite(array), array, pa.scalar(None, kind))
    elif not (pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)):
        return _nothing_fits(array, column_type)
    tried = _of_numbers(array, column_type, timestamp_format)
    if tried is None:
        return fit(array.cast(pa.string()), column_type, timestamp_format)
    return _settle(array, tried, column_type, timestamp_format)


def _plain(column: Any) -> Any:
    """One array without dictionaries, runs, views or large offsets; text as string, else as binary."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        return _plain(array.dictionary_decode())
    if pa.types.is_run_end_encoded(array.type):
        return _plain(pc.run_end_decode(array))
    kind = array.type
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return array.cast(pa.binary())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:  # a Parquet file may hold any bytes under the name of text
            return array.cast(pa.binary())
        return array if pa.types.is_string(kind) else array.cast(pa.string())
    return array


def _of_text(array: Any, column_type: ColumnType, timestamp_format: str) -> Tried:
    """Text that Arrow reads as `literals` does; the rest stays open."""
    target = arrow_type(column_type)
    match column_type.name:
        case "string":
            return Tried(array, np.zeros(len(array), bool))
        case "bool":
            true, false = pc.equal(array, "true"), pc.equal(array, "false")
            known = pc.or_(true, false)
            return Tried(pc.if_else(known, true, pa.scalar(None, pa.bool_())), flags(pc.invert(known)))
        case "int64":
            return _reopen(_cast(array, target), _holds(array, "x"))  # Arrow reads hexadecimals as well
        case "double":
            tried = _cast(array, target)
            return _reopen(tried, flags(pc.invert(pc.is_finite(tried.values))))
        case "decimal":
            return _decimals_of_text(array, column_type)
        case "date":
            tried = _cast(array, target)
            return _reopen(tried, moments.outside(tried.values))
        case "timestamp" if timestamp_format == ISO8601:
            tried = _try(array, moments.iso8601, target)
            return _reopen(tried, moments.without_minutes(array) | moments.outside(tried.values))
        case "timestamp":
            tried = _try(array, lambda part: moments.epoch_text(part, timestamp_format), target)
            return _reopen(tried, _unsure_numbers(array) | _holds(array, "x"))
        case _:
            return Tried(pa.nulls(len(array), target), valid(array))


def _of_numbers(array: Any, column_type: ColumnType, timestamp_format: str) -> Tried | None:
    """Numbers and booleans that need not become text first; None where they do."""
    kind, target = array.type, arrow_type(column_type)
    if pa.types.is_boolean(kind):
        return Tried(array, np.zeros(len(array), bool)) if column_type.name == "bool" else None
    match column_type.name:
        case "double" if not pa.types.is_decimal(kind):  # of which Arrow's double is not the nearest one
            return Tried(array.cast(target, safe=False), np.zeros(len(array), bool))
        case "int64" if pa.types.is_floating(kind):
            size = pc.abs(array.cast(pa.float64()))
            return _reopen(_cast(array, target), flags(pc.greater(size, float(EXACT_DOUBLE))))
        case "int64":
            return _cast(array, target)
        case "decimal" if pa.types.is_integer(kind):
            wide = pa.decimal256(76, column_type.scale)
            return _try(array, lambda part: part.cast(wide).cast(target), target)
        case "decimal" if pa.types.is_decimal(kind):  # 38 digits at 20 more of scale wrap within 128 bits
            wide = pa.decimal256(76, column_type.scale)
            return _try(array, lambda part: _checked(part.cast(wide).cast(target)), target)
        case "timestamp" if timestamp_format in EPOCH_UNITS_US and pa.types.is_integer(kind):
            units, undecided = _cast(array, pa.int64())
            found, outside = moments.of_epoch(units, timestamp_format)
            return Tried(found, undecided | outside)
        case "timestamp" if timestamp_format in EPOCH_UNITS_US and pa.types.is_decimal(kind):
            return _try(array, lambda part: moments.of_fractional_epoch(part, timestamp_format), target)
        case _:
            return None


def _settle(array: Any, tried: Tried, column_type: ColumnType, timestamp_format: str) -> Fit:
    """Decides what is still open by its text, one by one."""
    values, undecided = tried
    rows = np.flatnonzero(undecided)
    misfits = np.zeros(len(array), bool)
    if not rows.size:
        return Fit(values, misfits)
    found: list[object] = []
    for row, text in zip(rows, array.take(pa.array(rows)).cast(pa.string()).to_pylist(), strict=True):
        try:
            found.append(literals.fit_text(text, column_type, timestamp_format))
        except Misfit:
            found.append(None)
            misfits[row] = True
    return Fit(place(values, undecided, found, column_type), misfits)


def place(values: Any, where: Bools, found: list[Any], column_type: ColumnType) -> Any:
    """`values` with those `where` replaced by `found`, in order."""
    replaced = pa.array(found, arrow_type(column_type))
    if column_type.element is None:
        return pc.replace_with_mask(values, pa.array(where), replaced)
    order = np.arange(len(values))
    order[where] = len(values) + np.arange(len(found))
    return pa.concat_arrays([values, replaced]).take(pa.array(order))


def _fit_bytes(array: Any, column_type: ColumnType, timestamp_format: str) -> Fit:
    """Binary is text where it is UTF-8."""
    text, broken = _cast(array, pa.string())
    rows = np.flatnonzero(broken)
    held: list[str | None] = []
    for row, raw in zip(rows, array.take(pa.array(rows)).to_pylist(), strict=True):
        try:
            held.append(raw.decode())
            broken[row] = False
        except UnicodeDecodeError:
            held.append(None)
    if rows.size:
        where = np.zeros(len(array), bool)
        where[rows] = True
        text = place(text, where, held, STRING)
    values, misfits = fit(text, column_type, timestamp_format)
    return Fit(values, misfits | broken)


def _fit_moments(array: Any, column_type: ColumnType) -> Fit:
    """Timestamps and dates, as the other where that loses nothing."""
    found, outside = moments.of_arrow(array)
    present = valid(array)
    if column_type.name == "timestamp":
        return Fit(to_moments(found, present & ~outside), outside)
    if column_type.name == "date":
        misfits = outside | (present & (found % DAY_US != 0))
        return Fit(moments.to_dates(found // DAY_US, present & ~misfits), misfits)
    return _nothing_fits(array, column_type)


def _fit_lists(array: Any, column_type: ColumnType, timestamp_format: str) -> Fit:
    if column_type.element is None:
        return _nothing_fits(array, column_type)
    lengths = ints(pc.list_value_length(array))
    elements, wrong = fit(pc.list_flatten(array), column_type.element, timestamp_format)
    present = valid(array)
    misfits = np.zeros(len(array), bool)
    misfits[np.repeat(np.arange(len(array)), lengths)[wrong]] = True
    bounds = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    values = pa.ListArray.from_arrays(bounds, elements, mask=pa.array(~present | misfits))
    return Fit(values.cast(arrow_type(column_type)), misfits)


def _nothing_fits(array: Any, column_type: ColumnType) -> Fit:
    return Fit(pa.nulls(len(array), arrow_type(column_type)), valid(array))


def _try(array: Any, convert: Callable[[Any], Any], target: Any) -> Tried:
    """`convert` over the whole, or over the parts that it does not refuse."""
    try:
        return Tried(convert(array), np.zeros(len(array), bool))
    except pa.ArrowInvalid:
        if len(array) <= PIECE:
            return Tried(pa.nulls(len(array), target), valid(array))
    half = len(array) // 2
    left, right = _try(array[:half], convert, target), _try(array[half:], convert, target)
    return Tried(pa.concat_arrays([left.values, right.values]), np.concatenate([left.open, right.open]))


def _cast(array: Any, target: Any) -> Tried:
    return _try(array, lambda part: part.cast(target), target)


def _decimals_of_text(array: Any, column_type: ColumnType) -> Tried:
    """Decimals written without an exponent, in at most as many characters as Arrow has digits.

    Of longer ones and of exponents Arrow's reader makes other numbers, silently (`1e-41` becomes 0.00).
    """
    target = arrow_type(column_type)
    wide = pa.decimal256(column_type.precision, column_type.scale)  # no 38 digits overflow it at any scale
    tried = _try(
        array, lambda part: _checked(part.cast(wide if column_type.is_wide else target)).cast(target), target
    )
    return _reopen(tried, _unsure_numbers(array))


def _unsure_numbers(array: Any) -> Bools:
    return (ints(pc.binary_length(array)) > MAX_PRECISION) | _holds(array, "e")


def _checked(decimals: Any) -> Any:
    """ArrowInvalid where one has more digits than its type: Arrow reads `42` as a decimal(4,4)."""
    decimals.validate(full=True)
    return decimals


def _reopen(tried: Tried, doubtful: Bools) -> Tried:
    return Tried(tried.values, tried.open | doubtful)


def _holds(array: Any, letter: str) -> Bools:
    """Where a text has the letter, be it small or a capital: hardly ever, so all texts are looked through at once."""
    every = bytes(array.buffers()[2] or b"")  # the array may be a part of them
    if letter.encode() not in every and letter.upper().encode() not in every:
        return np.zeros(len(array), bool)
    return flags(pc.match_substring(array, letter, ignore_case=False)) | flags(
        pc.match_substring(array, letter.upper())
    )


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
