"""When two answers are the same (design.md 1.9): exact ones bit for bit, doubles within what sums allow."""

import math
from collections.abc import Sequence
from typing import Any

from featureflow_cli.compute.reference import Entities, EntityKey, answer_of, taken
from featureflow_cli.compute.views import Feature, Side, View
from featureflow_cli.compute.windows import window_start
from featureflow_cli.spec.types import ColumnType, Value

TOLERANCE = 1e-9
TINY = 1e-300
"""Below it doubles are subnormal or nearly so, and have no nine digits."""


def same(expected: Value, actual: Value, type: ColumnType, scale: float | None = None) -> bool:
    """Whether `actual` is `expected`: a double within 1e-9 of `scale` (or of its own size), all else equal.

    `scale` is the function below's; an infinite one means that the value is not determined (such as a ratio
    whose denominator is nothing but rounding).
    """
    if type.name == "double" and scale == math.inf:
        return True
    if expected is None or actual is None:
        return expected is actual
    if type.element is not None:
        assert isinstance(expected, tuple)
        return (
            isinstance(actual, tuple | list)
            and len(expected) == len(actual)
            and all(same(one, other, type.element) for one, other in zip(expected, actual, strict=True))
        )
    if type.name != "double":
        return expected == actual and str(expected) == str(actual)
    assert isinstance(expected, float)
    assert isinstance(actual, float)
    allowed = TOLERANCE * (abs(expected) if scale is None else max(scale, abs(expected)))
    return abs(expected - actual) <= allowed + TINY


def scale(view: View, feature: Feature, known: Entities, key: EntityKey, t_us: int) -> float:
    """What a double's tolerance is relative to: the window's sum of absolute values, and its kin.

    For a mean that sum is divided as the mean is; for a variance it is the mean square; a standard deviation
    may be off by as much as its variance may.
    """
    if feature.aggregation == "rank":
        return _rank_scale(view, feature, known, key, t_us)
    if feature.aggregation not in {"sum", "mean", "variance", "stddev", "ratio", "decayed_sum"}:
        return 0.0
    start_us = feature.window.start(t_us)
    found = [taken(view, side, known.get(key, ()), start_us, t_us) for side in feature.sides]
    if feature.aggregation == "ratio":
        (above, above_off), (below, below_off) = (
            _side(view, side, [held for _, held in each])
            for side, each in zip(feature.sides, found, strict=True)
        )
        if below == 0.0 == below_off:
            return 0.0
        if abs(below) <= 2 * TOLERANCE * below_off:
            return math.inf
        return (above_off + abs(above / below) * below_off) / abs(below)
    numbers = [abs(float(held)) for _, held in found[0]]
    if not numbers:
        return 0.0
    if feature.aggregation == "decayed_sum":
        ages = [(t_us - at) / feature.half_life_us for at, _ in found[0]]
        return math.fsum(number * 2.0**-age for number, age in zip(numbers, ages, strict=True))
    if feature.aggregation == "sum":
        return math.fsum(numbers)
    if feature.aggregation == "mean":
        return math.fsum(numbers) / len(numbers)
    mean_square = math.fsum(number * number for number in numbers) / len(numbers)
    if feature.aggregation == "variance":
        return mean_square
    deviation: Any = answer_of(view, known, key, t_us).values[feature.name]
    if deviation is None:
        return 0.0
    lowest = math.sqrt(max(deviation**2 - TOLERANCE * mean_square, 0.0))
    return float(deviation - lowest if lowest else math.sqrt(TOLERANCE * mean_square) + deviation) / TOLERANCE


def _side(view: View, side: Side, held: Sequence[Any]) -> tuple[float, float]:
    """A ratio's side, and what its own tolerance is relative to: nothing where it is exact."""
    if side.aggregation == "count":
        return float(len(held)), 0.0
    assert side.operand is not None
    is_exact = view.operands[side.operand].type.is_exact
    size = math.fsum(abs(float(number)) for number in held)
    return (float(sum(held)) if is_exact else math.fsum(held)), 0.0 if is_exact else size


def _rank_scale(view: View, feature: Feature, known: Entities, key: EntityKey, t_us: int) -> float:
    """A share of the largest is off by its own tolerance and by that of the largest."""
    grid_us = window_start(t_us, 0, feature.refresh_us)
    of = next(each for each in view.features if each.name == feature.of)
    if of.type.name != "double":
        return 0.0
    scales = {each: scale(view, of, known, each, grid_us) for each in known}
    values: list[Any] = [answer_of(view, known, each, grid_us).values[of.name] for each in known]
    largest = max((value for value in values if value is not None), default=0.0)
    off = max(scales.values(), default=0.0)
    if abs(largest) <= 2 * TOLERANCE * off:
        return math.inf if off else 0.0
    return (scales.get(key, 0.0) + off) / abs(largest)
