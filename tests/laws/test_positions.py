"""Laws of ranges of positions: the segment tree and the wavelet matrix answer as a loop over the range does."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute import segments
from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.wavelets import nth_smallest, sum_at_least

Range = tuple[int, int]
NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 8, 255, 2**31, 2**62, 2**63 - 1])
SIGNED = NUMBERS | NUMBERS.map(lambda number: -number - 1)


@st.composite
def ranged(draw: st.DrawFn, numbers: st.SearchStrategy[int | float]) -> tuple[list[int | float], list[Range]]:
    """Up to 40 values, and ranges of them: empty ones and the whole among them."""
    values = draw(st.lists(numbers, max_size=40))
    place = st.integers(0, len(values))
    ends = st.tuples(place, place).map(lambda pair: (min(pair), max(pair)))
    return values, [(0, len(values)), *draw(st.lists(ends, max_size=8))]


def bounds(ranges: list[Range]) -> tuple[Ints, Ints]:
    low, high = np.array(ranges, np.int64).T
    return low.copy(), high.copy()


@given(ranged(SIGNED))
def test_extremes_of_ranges_are_those_of_a_loop(drawn: tuple[list[int], list[Range]]):
    """Over nothing, the identity."""
    values, ranges = drawn
    cases: list[tuple[segments.Combine, int, Callable[..., int]]] = [
        (segments.smaller, 2**63 - 1, min),
        (segments.larger, -(2**63), max),
    ]
    for combine, identity, best in cases:
        (found,) = segments.merge_ranges((np.array(values, np.int64),), (identity,), *bounds(ranges), combine)
        assert found.tolist() == [best([*values[low:high], identity]) for low, high in ranges]


@given(ranged(st.sampled_from([0.0, 0.1, -2.25, 1e16, -1e16, 1e100, 3.0])))
def test_sums_of_a_range_lose_nothing_to_larger_values_beside_it(drawn: tuple[list[float], list[Range]]):
    """Within 1e-9 of the range's own sum of absolute values (design.md 1.9)."""
    values, ranges = drawn
    (found,) = segments.merge_ranges((np.array(values, np.float64),), (0.0,), *bounds(ranges), segments.add)
    for (low, high), total in zip(ranges, found.tolist(), strict=True):
        size = math.fsum(map(abs, values[low:high]))
        assert abs(total - math.fsum(values[low:high])) <= 1e-9 * size


@given(ranged(st.sampled_from([0.0, 0.1, -2.25, 1e8, 1e8 + 1, 3.0])))
def test_moments_of_a_range_are_those_of_a_loop(drawn: tuple[list[float], list[Range]]):
    """Count exactly; mean and squares within 1e-9 of the mean size and the sum of squares."""
    values, ranges = drawn
    leaves = (np.ones(len(values), np.int64), np.array(values, np.float64), np.zeros(len(values)))
    found = segments.merge_ranges(leaves, (0, 0.0, 0.0), *bounds(ranges), segments.moments)
    for (low, high), count, mean, squares in zip(ranges, *(part.tolist() for part in found), strict=True):
        taken = [Fraction(value) for value in values[low:high]]
        assert count == len(taken)
        middle = sum(taken, Fraction(0)) / max(len(taken), 1)
        assert abs(mean - middle) <= 1e-9 * sum(map(abs, taken)) / max(len(taken), 1)
        spread = sum(((value - middle) ** 2 for value in taken), Fraction(0))
        assert abs(squares - spread) <= 1e-9 * sum(value**2 for value in taken)


@given(ranged(NUMBERS), st.data())
def test_sums_of_what_is_large_enough_are_those_of_a_loop(
    drawn: tuple[list[int], list[Range]], data: st.DataObject
):
    """Floors below, at and above every value; weights of either sign."""
    values, ranges = drawn
    weights = data.draw(st.lists(st.integers(-(2**40), 2**40), min_size=len(values), max_size=len(values)))
    floors = data.draw(st.lists(NUMBERS, min_size=len(ranges), max_size=len(ranges)))
    found = sum_at_least(
        np.array(values, np.int64), np.array(weights, np.int64), *bounds(ranges), np.array(floors, np.int64)
    )
    pairs = list(zip(values, weights, strict=True))
    assert found.tolist() == [
        sum(weight for value, weight in pairs[low:high] if value >= floor)
        for (low, high), floor in zip(ranges, floors, strict=True)
    ]


@given(ranged(NUMBERS), st.data())
def test_the_nth_smallest_of_a_range_is_that_of_a_sort(
    drawn: tuple[list[int], list[Range]], data: st.DataObject
):
    """Every place of a range that is not empty."""
    values, ranges = drawn
    filled = [(low, high) for low, high in ranges if low < high]
    if not filled:
        return
    nth = [data.draw(st.integers(0, high - low - 1)) for low, high in filled]
    found = nth_smallest(np.array(values, np.int64), *bounds(filled), np.array(nth, np.int64))
    expected = [sorted(values[low:high])[place] for (low, high), place in zip(filled, nth, strict=True)]
    assert found.tolist() == expected
