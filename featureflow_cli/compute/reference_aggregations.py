"""One aggregation over the events that it takes, by brute force (design.md 1.8 to 1.13).

The other half of `compute/reference.py`, which says which events those are.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from featureflow_cli.compute import percentiles
from featureflow_cli.compute.hashing import canonical_text, hash_text
from featureflow_cli.compute.views import Feature
from featureflow_cli.spec.types import Value

Taken = list[tuple[int, Any]]
"""(timestamp, value) of each event that a side takes, oldest first, ties by value; no value is null."""

OVERFLOW = "overflow"
TOO_MANY_KEYS = "too_many_keys"


class NoAnswerError(Exception):
    """There are events, but no answer: `overflow` or `too_many_keys`."""


def over_nothing(feature: Feature) -> Value:
    is_zero = feature.aggregation in {"count", "sum", "count_distinct", "decayed_count", "decayed_sum"}
    if feature.default is not None or not is_zero:
        return feature.default
    if feature.type.name == "decimal":
        return _decimal(0, feature.type.scale)
    return 0.0 if feature.type.name == "double" else 0


def _sum(feature: Feature, found: Taken, _: int) -> Value:
    total = total_of(found)
    if feature.type.name == "double":
        return double_of(total)
    unscaled = int(total * 10**feature.type.scale)
    is_integer = feature.type.name == "int64"
    if not (-(2**63) <= unscaled < 2**63 if is_integer else abs(unscaled) < 10**38):
        raise NoAnswerError(OVERFLOW)
    return unscaled if is_integer else _decimal(unscaled, feature.type.scale)


def _decayed_sum(feature: Feature, found: Taken, t_us: int) -> Value:
    return double_of(
        math.fsum(float(held) * 2.0 ** -((t_us - at) / feature.half_life_us) for at, held in found)
    )


def _decayed_count(feature: Feature, found: Taken, t_us: int) -> Value:
    return _decayed_sum(feature, [(at, 1) for at, _ in found], t_us)


def _variance(_: Feature, found: Taken, _t_us: int) -> float | None:
    if len(found) < 2:
        return None
    numbers = [Fraction(held) for _, held in found]
    mean = sum(numbers) / len(numbers)
    return double_of(sum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1))


def _stddev(feature: Feature, found: Taken, t_us: int) -> Value:
    variance = _variance(feature, found, t_us)
    return None if variance is None else math.sqrt(variance)


def _percentile(feature: Feature, found: Taken, _: int) -> Value:
    nearest_rank = math.ceil(Fraction(repr(feature.p)) * len(found))
    number = sorted(float(held) for _, held in found)[nearest_rank - 1]
    return float(percentiles.midpoint(percentiles.bucket(np.array([number])))[0])


# --- keyed aggregations (1.12, 1.13)


def _by_key(found: Taken) -> list[tuple[int, Taken]]:
    """(hash of the key, what was taken of it), smallest hash first."""
    grouped: dict[int, Taken] = defaultdict(list)
    for at, key in found:
        grouped[hash_text(canonical_text(key))].append((at, key))
    return sorted(grouped.items())


def _count_distinct(feature: Feature, found: Taken, _: int) -> Value:
    keys = _by_key(found)
    if len(keys) <= feature.max_keys:
        return len(keys)
    return (feature.max_keys - 1) * 2**64 // keys[feature.max_keys - 1][0]


def _session_mean(feature: Feature, found: Taken, _: int) -> Value:
    sessions = [events for _, events in _by_key(found)[: feature.max_keys] if len(events) >= 2]
    spans_us = [events[-1][0] - events[0][0] for events in sessions]
    return double_of(Fraction(sum(spans_us), len(spans_us) * feature.unit_us)) if spans_us else None


def _top_k(feature: Feature, found: Taken, _: int) -> Value:
    counts = Counter(key for _, key in found)
    if len(counts) > feature.max_keys:
        raise NoAnswerError(TOO_MANY_KEYS)
    return tuple(sorted(sorted(counts), key=lambda key: -counts[key])[: feature.k])


OVER_SOMETHING: Mapping[str, Callable[[Feature, Taken, int], Value]] = {
    "count": lambda _, found, _t: len(found),
    "sum": _sum,
    "mean": lambda _, found, _t: double_of(total_of(found) / len(found)),
    "min": lambda _, found, _t: min(held for _, held in found),
    "max": lambda _, found, _t: max(held for _, held in found),
    "variance": _variance,
    "stddev": _stddev,
    "first": lambda _, found, _t: found[0][1],
    "last": lambda _, found, _t: found[-1][1],
    "first_k": lambda feature, found, _t: tuple(held for _, held in found[: feature.k]),
    "last_k": lambda feature, found, _t: tuple(held for _, held in found[::-1][: feature.k]),
    "count_distinct": _count_distinct,
    "top_k": _top_k,
    "percentile": _percentile,
    "time_since_last": lambda feature, found, t: double_of(Fraction(t - found[-1][0], feature.unit_us)),
    "time_since_first": lambda feature, found, t: double_of(Fraction(t - found[0][0], feature.unit_us)),
    "session_mean": _session_mean,
    "decayed_count": _decayed_count,
    "decayed_sum": _decayed_sum,
}


# --- numbers (1.8, 1.9)


def total_of(found: Taken) -> Fraction:
    """The sum, exact; of doubles correctly rounded."""
    if not found or not isinstance(found[0][1], float):
        return sum((Fraction(held) for _, held in found), Fraction(0))
    try:
        return Fraction(math.fsum(held for _, held in found))
    except OverflowError as err:
        raise NoAnswerError(OVERFLOW) from err


def double_of(number: Fraction | float) -> float:
    try:
        double = float(number)
    except OverflowError:
        double = math.inf
    if not math.isfinite(double):
        raise NoAnswerError(OVERFLOW)
    return double


def _decimal(unscaled: int, scale: int) -> Decimal:
    return Decimal(f"{unscaled}E-{scale}")


def finite(held: Value) -> Value:
    """No NaN and no infinity comes in or leaves, alone or in a list."""
    if isinstance(held, tuple):
        return tuple(finite(element) for element in held)
    return None if isinstance(held, float) and not math.isfinite(held) else held
