"""What needs more than one object to be checked: references, types, windows (design.md 1.3, 1.9 to 1.16)."""

from featureflow_cli.errors import Problem
from featureflow_cli.spec.models import Definitions, StoreConfig
from featureflow_cli.spec.places import Positions


def check(
    config: StoreConfig,
    definitions: Definitions,
    positions: Positions,
    broken: frozenset[tuple[str, str]] = frozenset(),
) -> list[Problem]:
    """Every problem across objects; `broken` names objects that were written but could not be read."""
    return []
