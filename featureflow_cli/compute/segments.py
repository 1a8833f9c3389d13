"""Merging ranges of positions by what cannot be subtracted: minima, maxima, doubles, moments.

A segment tree over the positions, level by level (each node merges two of the level below); all ranges climb
together and take up to two nodes a level. O(n + ranges * log n); no difference of large totals anywhere.
"""

from collections.abc import Callable

import numpy as np

from featureflow_cli.compute.codes import Doubles, Ints

Columns = tuple[np.ndarray, ...]
Combine = Callable[[Columns, Columns], Columns]


def merge_ranges(
    leaves: Columns, identity: tuple[float | int, ...], low: Ints, high: Ints, combine: Combine
) -> Columns:
    """For each range [low, high): its leaves merged by `combine` (associative and commutative); else `identity`."""
    total = tuple(np.full(len(low), start, leaf.dtype) for start, leaf in zip(identity, leaves, strict=True))
    low, high, level = low.copy(), high.copy(), leaves
    active = np.flatnonzero(low < high)
    while len(active):
        for odd, step in ((active[low[active] & 1 == 1], 0), (active[high[active] & 1 == 1], -1)):
            if not len(odd):
                continue
            inside = odd[low[odd] < high[odd]]
            at = low[inside] if step == 0 else high[inside] - 1
            merged = combine(tuple(column[inside] for column in total), tuple(column[at] for column in level))
            for column, new in zip(total, merged, strict=True):
                column[inside] = new
            if step == 0:
                low[odd] += 1
            else:
                high[odd] -= 1
        low[active] >>= 1
        high[active] >>= 1
        active = active[low[active] < high[active]]
        level = _next_level(level, identity, combine)
    return total


def _next_level(level: Columns, identity: tuple[float | int, ...], combine: Combine) -> Columns:
    if len(level[0]) % 2:
        level = tuple(
            np.append(column, column.dtype.type(start)) for column, start in zip(level, identity, strict=True)
        )
    return combine(tuple(column[0::2] for column in level), tuple(column[1::2] for column in level))


def add(left: Columns, right: Columns) -> Columns:
    return (left[0] + right[0],)


def smaller(left: Columns, right: Columns) -> Columns:
    return (np.minimum(left[0], right[0]),)


def larger(left: Columns, right: Columns) -> Columns:
    return (np.maximum(left[0], right[0]),)


def moments(left: Columns, right: Columns) -> Columns:
    """(n, mean, M2) of both: the pairwise update of Chan, Golub and LeVeque (1979)."""
    total = left[0] + right[0]
    whole = np.maximum(total, 1)
    apart = right[1] - left[1]
    mean: Doubles = np.where(
        right[0] == 0, left[1], np.where(left[0] == 0, right[1], left[1] + apart * right[0] / whole)
    )
    squares = (
        left[2]
        + right[2]
        + np.where((left[0] > 0) & (right[0] > 0), apart**2 * (left[0] * right[0] / whole), 0.0)
    )
    return total, mean, squares
