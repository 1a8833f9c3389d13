"""From merged partials to the answer of a feature: the last step of state reads and of training alike.

Here, and only here, a default answers for nothing, an absent entity answers null, and a ratio divides.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.aggregations import AGGREGATIONS, Asked, exact_doubles
from featureflow_cli.compute.codes import Bools, Doubles, Ints
from featureflow_cli.compute.partials import NO_REASON, OVERFLOW, Answer, Partials, Scalars
from featureflow_cli.compute.views import Feature, Side, View
from featureflow_cli.spec.types import DOUBLE, ColumnType, arrow_type


def answer(
    view: View, feature: Feature, sides: list[Partials], t_us: Ints, present: Bools, texts: Any
) -> Answer:
    """The values of a feature (not a rank) at `t_us` from the partials of its sides; one row an entity."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if feature.aggregation == "ratio":
            return _ratio(view, feature, sides, present)
        side = feature.sides[0]
        asked = Asked(feature, operand_type(view, side), t_us, texts)
        found = AGGREGATIONS[side.aggregation].finalize(sides[0], asked)
    return settle(found.values, feature, found.empty, present, found.reason)


def settle(values: Any, feature: Feature, empty: Bools, present: Bools, reason: Ints | None) -> Answer:
    """`default` where there was nothing, null where the entity is not present."""
    if feature.default is not None and (empty & present).any():
        values = _replace(values, empty, feature)
    if not present.all():
        values = pc.if_else(pa.array(present), values, pa.scalar(None, values.type))
        reason = None if reason is None else np.where(present, reason, NO_REASON)
    return Answer(values, reason)


def operand_type(view: View, side: Side) -> ColumnType | None:
    return None if side.operand is None else view.operands[side.operand].type


def _replace(values: Any, where: Bools, feature: Feature) -> Any:
    default = pa.scalar(feature.default, arrow_type(feature.type))
    return pc.if_else(pa.array(where), default, values)


def _ratio(view: View, feature: Feature, sides: list[Partials], present: Bools) -> Answer:
    """of / to as doubles; `default`, else null, where the denominator is zero (design.md 1.8)."""
    above = side_doubles(view, feature.sides[0], sides[0])
    below = side_doubles(view, feature.sides[1], sides[1])
    zero = below == 0
    values = above / np.where(zero, 1.0, below)
    finite = np.isfinite(values)
    reason = None if finite.all() else np.where(finite | zero, NO_REASON, OVERFLOW)
    return settle(pa.array(values, pa.float64(), mask=zero | ~finite), feature, zero, present, reason)


def side_doubles(view: View, side: Side, partials: Partials) -> Doubles:
    """A count or a sum as doubles; 0 over nothing."""
    assert isinstance(partials, list)
    operand = operand_type(view, side)
    if side.aggregation == "count" or operand is None:
        return partials[0].value.astype(np.float64)
    if operand.is_exact:
        return exact_doubles(partials, operand)
    return np.where(partials[0].held, partials[0].double, 0.0)


def nulls(count: int, column_type: ColumnType = DOUBLE) -> Any:
    return pa.nulls(count, arrow_type(column_type))


__all__ = ["Answer", "Scalars", "answer", "nulls", "operand_type", "settle", "side_doubles"]
