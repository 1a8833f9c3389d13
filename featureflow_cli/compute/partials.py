"""What is left of a side's events after merging, per row asked for: the input of every `finalize`.

State reads and training both produce these; from here on they are one path. A row is one (entity, T).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from featureflow_cli.compute.codes import Bools, Doubles, Ints


@dataclass(frozen=True)
class Scalars:
    """One state column reduced to one value a row; `held` is false where no event contributed."""

    value: Ints
    held: Bools

    @property
    def double(self) -> Doubles:
        return self.value.view(np.float64)


@dataclass(frozen=True)
class Keyed:
    """Columns of one keyed aggregation reduced to one entry a (row, key), sorted by (row, key as uint64 or code)."""

    row: Ints
    key: Ints
    values: tuple[Ints, ...]


@dataclass(frozen=True)
class Listed:
    """At most k entries a row, in answer order."""

    row: Ints
    time: Ints
    value: Ints


Partials = list[Scalars] | Keyed | Listed


@dataclass(frozen=True)
class Answer:
    """One feature's values, one a row: null where `reason` or the law says so. `reason` indexes REASONS."""

    values: Any
    reason: Ints | None = None


REASONS = ("", "overflow", "too_many_keys")
NO_REASON, OVERFLOW, TOO_MANY_KEYS = range(3)
