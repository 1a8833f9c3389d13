"""Ranks across entities: a feature of one entity against the same feature of all, at a grid point (design.md 1.14).

`of` is evaluated for every entity that has an event which counts there; those are the population of the grid
point. `share_of_max` compares doubles; `percent_rank` exact integers, since rounding would flip ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from featureflow_cli.compute.aggregations import AGGREGATIONS, Asked
from featureflow_cli.compute.answering import operand_type, settle, side_doubles
from featureflow_cli.compute.codes import Bools, Doubles, Ints
from featureflow_cli.compute.partials import NO_REASON, OVERFLOW, Answer, Partials
from featureflow_cli.compute.views import Feature, View

_EXACT = Context(prec=76)
"""Python's own default keeps 28 digits."""


@dataclass(frozen=True)
class Population:
    """What a rank compares with at one grid point: the members' values in order.

    The largest only for `share_of_max` (a double); all of them for `percent_rank` (integers, of any size).
    """

    values: Any

    def encode(self) -> bytes:
        values = self.values.tolist()
        return orjson.dumps(values if self.values.dtype == np.float64 else [str(value) for value in values])

    @classmethod
    def decode(cls, encoded: bytes) -> "Population":
        values = orjson.loads(encoded)
        if values and isinstance(values[0], str):
            return cls(_integers([int(value) for value in values]))
        return cls(np.array(values, np.float64))


Populations = Callable[[Feature, int], Population]
"""Answers the population of a rank at a grid point."""


@dataclass(frozen=True)
class Members:
    """Values of `of`, one a row: `held` where an event counts for it, `known` where it also has a value."""

    values: Any
    held: Bools
    known: Bools


def members(view: View, feature: Feature, sides: list[Partials], grid_us: Ints, texts: Any) -> Members:
    held: Bools = np.logical_or.reduce([side[0].held for side in sides if isinstance(side, list)])
    with np.errstate(all="ignore"):
        if feature.method == "percent_rank":
            values, known = _exact(view, feature, sides[0], grid_us, texts)
        else:
            values, known = _doubles(view, feature, sides, grid_us, texts)
    return Members(values, held, known & held)


def population(feature: Feature, found: Members) -> Population:
    """The population that these rows make, all of them at one grid point."""
    ordered = np.sort(found.values[found.known])
    return Population(ordered[-1:] if feature.method == "share_of_max" else ordered)


def rank(
    view: View,
    feature: Feature,
    sides: list[Partials],
    grid_us: Ints,
    present: Bools,
    populations: Populations,
    texts: Any,
) -> Answer:
    """The rank of each row's value in the population of its grid point."""
    found = members(view, feature, sides, grid_us, texts)
    ranks, answered = np.zeros(len(grid_us)), np.zeros(len(grid_us), np.bool_)
    for grid in np.unique(grid_us[found.known]).tolist():
        rows = np.flatnonzero(found.known & (grid_us == grid))
        ranks[rows], answered[rows] = place(feature, found.values[rows], populations(feature, grid).values)
    return settle_ranks(feature, ranks, answered, found.held, present)


def settle_ranks(feature: Feature, ranks: Doubles, answered: Bools, held: Bools, present: Bools) -> Answer:
    """The answer of ranks: a share too large for a double (of a tiny largest) is null, an overflow."""
    infinite = answered & ~np.isfinite(ranks)
    reason = np.where(infinite, OVERFLOW, NO_REASON) if infinite.any() else None
    return settle(pa.array(ranks, pa.float64(), mask=~answered | infinite), feature, ~held, present, reason)


def place(feature: Feature, values: Any, ordered: Any) -> tuple[Doubles, Bools]:
    """(rank of each value in the population `ordered`, whether it has one); a share may be infinite."""
    none = np.zeros(len(values), np.bool_)
    if not len(ordered):
        return np.zeros(len(values)), none
    if feature.method == "share_of_max":
        largest = float(ordered[-1])
        if largest <= 0:
            return np.zeros(len(values)), none
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float64) / largest, ~none
    below = np.searchsorted(ordered, values, side="left")
    return below / max(len(ordered) - 1, 1), ~none


def _doubles(
    view: View, feature: Feature, sides: list[Partials], grid_us: Ints, texts: Any
) -> tuple[Doubles, Bools]:
    if len(feature.sides) == 2:
        default = _ranked(view, feature).default
        above, below = (side_doubles(view, *pair) for pair in zip(feature.sides, sides, strict=True))
        zero = below == 0
        values = np.where(zero, _as_double(default), above / np.where(zero, 1.0, below))
        return values, np.isfinite(values) & (~zero | (default is not None))
    found = _finalized(view, feature, sides[0], grid_us, texts).cast(pa.float64(), safe=False)
    known = np.asarray(found.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    return np.asarray(found.fill_null(0.0).to_numpy(zero_copy_only=False), np.float64), known


def _exact(view: View, feature: Feature, partials: Partials, grid_us: Ints, texts: Any) -> tuple[Any, Bools]:
    """Counts, exact sums and extremes as integers that order as the values do."""
    found = _finalized(view, feature, partials, grid_us, texts)
    known = np.asarray(found.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    if pa.types.is_decimal(found.type):
        unscaled = [0 if value is None else _unscaled(value, found.type.scale) for value in found.to_pylist()]
        return _integers(unscaled), known
    assert isinstance(partials, list)
    if pa.types.is_floating(found.type):  # an extreme: its code orders as the double does
        return partials[0].value, known
    return np.asarray(found.fill_null(0).to_numpy(zero_copy_only=False), np.int64), known


def _ranked(view: View, feature: Feature) -> Feature:
    return next(each for each in view.features if each.name == feature.of)


def _finalized(view: View, feature: Feature, partials: Partials, grid_us: Ints, texts: Any) -> Any:
    """What `of` answers, in its own type."""
    side = feature.sides[0]
    asked = Asked(_ranked(view, feature), operand_type(view, side), grid_us, texts)
    return AGGREGATIONS[side.aggregation].finalize(partials, asked).values


def _as_double(default: object) -> float:
    return default if isinstance(default, float) else 0.0


def _unscaled(value: Decimal, scale: int) -> int:
    return int(value.scaleb(scale, _EXACT))


def _integers(values: list[int]) -> Any:
    """int64 where all fit, else Python integers."""
    fit = all(-(2**63) <= value < 2**63 for value in values)
    return np.array(values, np.int64 if fit else object)
