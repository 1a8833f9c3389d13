"""Two answers side by side: where they differ, and by how much."""

from dataclasses import dataclass
from decimal import Decimal

from featureflow_cli.spec.types import Value


@dataclass(frozen=True)
class Thresholds:
    """A value differs where it is off by more than `relative`; a feature is flagged where more than `share` do."""

    relative: float = 0.05
    share: float = 0.05


def distance(online: Value, offline: Value) -> float:
    """0.0 where they are equal; of numbers the difference over the larger of both; 1.0 of anything else."""
    if online == offline and isinstance(online, bool) == isinstance(offline, bool):
        return 0.0
    if not (_is_number(online) and _is_number(offline)):
        return 1.0
    assert isinstance(online, int | float | Decimal)
    assert isinstance(offline, int | float | Decimal)
    one, other = float(online), float(offline)
    if one == other:  # beyond a double's digits: exact numbers that differ by less than it can say
        return 0.0
    return min(abs(one - other) / max(abs(one), abs(other)), 1.0)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)
