"""What the numbers of a state are counted from: int64 to unsigned words that are small where they can be, and back.

Differences wrap, so that every number has a word of its own; how small the words are depends on what is usual.
"""

from collections.abc import Sequence
from enum import Enum

import numpy as np

from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.records import Words
from featureflow_cli.compute.views import Key, Lift, Merge, StateColumn
from featureflow_cli.compute.windows import BEGINNING_US
from featureflow_cli.spec.types import ColumnType

_MIRROR = np.int64(2**63 - 1)


class Frame(Enum):
    """How a number is stored; `base` is the moment of the state's newest event, or for AFTER the one before."""

    PLAIN = "plain"  # as it is
    TEXT = "text"  # the same, of a place in the table of texts
    FROM_ONE = "from_one"  # less one
    SIGNED = "signed"  # 0, -1, 1, -2, … as 0, 1, 2, 3, …
    TILE = "tile"  # 0: the beginning; else how many tiles it is to the base's, which is 1
    AGO = "ago"  # microseconds before the base
    AFTER = "after"  # microseconds after the moment of AGO that stands before it in the family
    DOUBLE = "double"  # a double's bits, its last byte first: short doubles end in zeros
    CODED_DOUBLE = "coded_double"  # the same, of a double's code (compute/codes.py)


def frames(operands: Sequence[ColumnType], family: Sequence[StateColumn]) -> list[Frame]:
    """Of what is stored of each cell of a family: its tile and its key, where it has them, and each column's value."""
    column = family[0]
    found = [Frame.TILE] if tile_unit_us(column) is not None else []
    if column.key is not Key.NONE:
        found.append(_key_frame(operands, column))
    started = False
    for each in family:
        frame = _value_frame(operands, each)
        is_end = frame is Frame.AGO and each.merge is Merge.MAX and started
        started = started or (frame is Frame.AGO and each.merge is Merge.MIN)
        found.append(Frame.AFTER if is_end else frame)
    return found


def tile_unit_us(column: StateColumn) -> int | None:
    """What all its tiles are multiples of: its finest rung. None: all of them are the beginning."""
    rungs = [rung for width, rung in column.horizons if width is not None]
    return min(rungs) if column.is_tiled and rungs else None


def narrowed(frame: Frame, numbers: Ints, base: Ints, unit_us: int) -> Words:
    """The words of these numbers, each with its base; `unit_us` is that of tiles."""
    if frame is Frame.FROM_ONE:
        numbers = numbers - 1
    elif frame is Frame.SIGNED:
        numbers = (numbers << 1) ^ (numbers >> 63)
    elif frame is Frame.TILE:
        is_beginning = numbers == BEGINNING_US
        numbers = base // unit_us - numbers // unit_us + 1
        if is_beginning.any():
            numbers[is_beginning] = 0
    elif frame is Frame.AGO:
        numbers = base - numbers
    elif frame is Frame.AFTER:
        numbers = numbers - base
    elif frame is Frame.DOUBLE:
        numbers = numbers.byteswap()
    elif frame is Frame.CODED_DOUBLE:
        numbers = _mirrored(numbers).byteswap()
    return numbers.view(np.uint64)


def widened(frame: Frame, words: Words, base: Ints, unit_us: int) -> Ints:
    """The numbers of which these are the words."""
    numbers: Ints = words.view(np.int64)
    if frame is Frame.FROM_ONE:
        return numbers + 1
    if frame is Frame.SIGNED:
        return (words >> np.uint64(1)).view(np.int64) ^ -(numbers & 1)
    if frame is Frame.TILE:
        is_beginning = numbers == 0
        numbers = (base // unit_us + 1 - numbers) * unit_us
        if is_beginning.any():
            numbers[is_beginning] = BEGINNING_US
        return numbers
    if frame is Frame.AGO:
        return base - numbers
    if frame is Frame.AFTER:
        return base + numbers
    if frame is Frame.DOUBLE:
        return numbers.byteswap()
    if frame is Frame.CODED_DOUBLE:
        return _mirrored(numbers.byteswap())
    return numbers


def _key_frame(operands: Sequence[ColumnType], column: StateColumn) -> Frame:
    if column.key is Key.CODE:
        return Frame.TEXT if column.is_text else _code_frame(operands, column)
    return {Key.HASH: Frame.PLAIN, Key.BUCKET: Frame.SIGNED, Key.TIME: Frame.AGO}[column.key]


def _value_frame(operands: Sequence[ColumnType], column: StateColumn) -> Frame:
    if column.merge is Merge.DECAY or column.lift in {Lift.DOUBLE, Lift.ZERO}:
        return Frame.DOUBLE
    if column.is_text and column.key is not Key.CODE:
        return Frame.TEXT
    if column.lift is Lift.CODE:
        return _code_frame(operands, column)
    return {Lift.ONE: Frame.FROM_ONE, Lift.TIME: Frame.AGO}.get(column.lift, Frame.SIGNED)


def _code_frame(operands: Sequence[ColumnType], column: StateColumn) -> Frame:
    is_double = column.operand is not None and operands[column.operand].name == "double"
    return Frame.CODED_DOUBLE if is_double else Frame.SIGNED


def _mirrored(numbers: Ints) -> Ints:
    return np.where(numbers < 0, numbers ^ _MIRROR, numbers)
