"""Ranks across entities: a feature of one entity against the same feature of all, at a grid point (design.md 1.14)."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa

from featureflow_cli.compute.aggregations import AGGREGATIONS, Asked, words_of
from featureflow_cli.compute.answering import operand_type, settle, side_doubles
from featureflow_cli.compute.codes import NO_TEXTS, Bools, Ints, uncode
from featureflow_cli.compute.partials import Answer, Partials
from featureflow_cli.compute.views import Feature, View

Number = int | float


@dataclass(frozen=True)
class Population:
    """What a rank compares with at one grid point: the members' values in order.

    `share_of_max` needs the largest only, as a double; `percent_rank` all of them, as exact integers.
    """

    values: tuple[Number, ...]

    def encode(self) -> bytes:
        return orjson.dumps([str(value) if isinstance(value, int) else value for value in self.values])

    @classmethod
    def decode(cls, encoded: bytes) -> "Population":
        return cls(tuple(int(value) if isinstance(value, str) else value for value in orjson.loads(encoded)))


Populations = Callable[[Feature, int], Population]
"""Answers the population of a rank at a grid point."""


def population(feature: Feature, values: Sequence[Number | None]) -> Population:
    """The population that these members' values make (`members`; None: not a member, or without a value)."""
    known = sorted(value for value in values if value is not None)
    return Population(tuple(known[-1:] if feature.method == "share_of_max" else known))


def members(
    view: View, feature: Feature, sides: list[Partials], grid_us: Ints, texts: object = NO_TEXTS
) -> tuple[list[Number | None], Bools]:
    """(value of `of`, whether an event counts for it) of each row at its grid point; None where it has no value."""
    held = np.logical_or.reduce([side[0].held for side in sides if isinstance(side, list)])
    exact = feature.method == "percent_rank"
    values = (
        _exact(view, feature, sides[0], texts) if exact else _doubles(view, feature, sides, grid_us, texts)
    )
    return [value if is_held else None for value, is_held in zip(values, held.tolist(), strict=True)], held


def rank(
    view: View,
    feature: Feature,
    sides: list[Partials],
    grid_us: Ints,
    present: Bools,
    populations: Populations,
    texts: object = NO_TEXTS,
) -> Answer:
    """The rank of each row's value in the population of its grid point."""
    values, held = members(view, feature, sides, grid_us, texts)
    known: dict[int, Population] = {}
    answers: list[float | None] = []
    for value, grid in zip(values, grid_us.tolist(), strict=True):
        if value is None:
            answers.append(None)
            continue
        if grid not in known:
            known[grid] = populations(feature, grid)
        answers.append(_place(feature, value, known[grid].values))
    return settle(pa.array(answers, pa.float64()), feature, ~held, present, None)


def _place(feature: Feature, value: Number, population_values: tuple[Number, ...]) -> float | None:
    if not population_values:
        return None
    if feature.method == "share_of_max":
        largest = population_values[-1]
        return value / largest if largest > 0 else None
    others = len(population_values) - 1
    return bisect_left(population_values, value) / others if others else 0.0


def _doubles(
    view: View, feature: Feature, sides: list[Partials], grid_us: Ints, texts: object
) -> list[float | None]:
    side = feature.sides[0]
    with np.errstate(all="ignore"):
        if len(feature.sides) == 2:
            above, below = (side_doubles(view, *pair) for pair in zip(feature.sides, sides, strict=True))
            values, null = above / np.where(below == 0, 1.0, below), below == 0
        elif side.aggregation in {"count", "sum"}:
            values = side_doubles(view, side, sides[0])
            null = np.zeros(len(values), np.bool_)
        else:
            asked = Asked(feature, operand_type(view, side), grid_us, texts)
            answers = AGGREGATIONS[side.aggregation].finalize(sides[0], _typed(asked))
            found = answers.values.cast(pa.float64())
            null = ~np.asarray(found.is_valid().to_numpy(zero_copy_only=False), np.bool_)
            values = np.where(null, 0.0, found.fill_null(0.0).to_numpy(zero_copy_only=False))
    return [
        None if missing else value
        for value, missing in zip(values.tolist(), null | ~np.isfinite(values), strict=True)
    ]


def _typed(asked: Asked) -> Asked:
    """The question as `of` itself would ask it: extremes answer in the operand's type, not the rank's."""
    from dataclasses import replace

    operand = asked.operand
    return asked if operand is None else replace(asked, feature=replace(asked.feature, type=operand))


def _exact(view: View, feature: Feature, partials: Partials, texts: object) -> list[int | None]:
    """Counts, exact sums and extremes as integers that order as the values do."""
    assert isinstance(partials, list)
    side, operand = feature.sides[0], operand_type(view, feature.sides[0])
    if side.aggregation == "sum":
        low, high, fits = words_of(partials)
        return [
            (top << 64) | (bottom & (2**64 - 1)) if fit else None
            for bottom, top, fit in zip(low.tolist(), high.tolist(), fits.tolist(), strict=True)
        ]
    if operand is not None and operand.is_wide and side.aggregation != "count":
        values = uncode(partials[0].value, partials[0].held, operand, texts)
        return [None if value is None else int(value.scaleb(operand.scale)) for value in values.to_pylist()]
    return list(partials[0].value.tolist())
