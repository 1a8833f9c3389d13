"""The population of a rank at a grid point, from the online states of all entities (design.md 1.14).

Whoever first needs it evaluates it in bulk and publishes it; a writer that merges a late event withdraws those
it would change, so a published population is always that of the states as they stand.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from featureflow_cli.compute.codec import decode
from featureflow_cli.compute.packed import packed
from featureflow_cli.compute.ranking import Members, Population, members, population
from featureflow_cli.compute.reading import partials, window_starts
from featureflow_cli.compute.views import Feature, View
from featureflow_cli.errors import StoreUnavailable, UsageError
from featureflow_cli.online.store import OnlineStore
from featureflow_cli.times import format_timestamp


@dataclass
class Populations:
    """Populations of one view's ranks for one request; call it with (feature, grid point).

    `now_us` is the clock: a grid point past it is evaluated but not published, for events may still come.
    `exact_as_of` refuses a grid point that some member's tiles can no longer be cut at.
    """

    store: OnlineStore
    view: View
    online_field: str
    now_us: int
    exact_as_of: bool = False
    known: dict[tuple[str, int], Population] = field(default_factory=dict)

    def __call__(self, feature: Feature, grid_us: int) -> Population:
        if (feature.name, grid_us) not in self.known:
            self.known[feature.name, grid_us] = self._at(feature, grid_us)
        return self.known[feature.name, grid_us]

    def _at(self, feature: Feature, grid_us: int) -> Population:
        is_settled = grid_us <= self.now_us
        held = self.store.population(self.online_field, feature.name, grid_us) if is_settled else None
        if held is not None and not self.exact_as_of:
            return Population.decode(held)
        withdrawals = self.store.withdrawals(self.online_field)
        found = self._evaluate(feature, grid_us)
        if is_settled and self._is_complete():
            with suppress(StoreUnavailable):  # who may only read keeps it to itself
                self.store.publish(self.online_field, feature.name, grid_us, found.encode(), withdrawals)
        return found

    def _is_complete(self) -> bool:
        """Whether all states are there: of a store that was lost, nothing may outlast its being built again."""
        shards = range(self.store.shards)
        return all(self.store.marker(shard, self.online_field) is not None for shard in shards)

    def _evaluate(self, feature: Feature, grid_us: int) -> Population:
        since_us = feature.window.start(grid_us)
        parts: list[Members] = []
        for chunk in self.store.scan(self.view.entity, self.online_field, since_us):
            states, _ = decode(self.view, packed([blob for _, blob in chunk]))
            if self.exact_as_of:
                self._refuse_past(feature, grid_us, int(states.newest_us.max()))
            grid = np.full(states.count, grid_us, np.int64)
            sides = partials(self.view, feature, states, window_starts(feature, grid), grid)
            parts.append(members(self.view, feature, sides, grid, states.texts))
        if not parts:
            return Population(np.empty(0))
        values = np.concatenate([part.values for part in parts])
        held, known = (np.concatenate([getattr(part, name) for part in parts]) for name in ("held", "known"))
        return population(feature, Members(values, held, known))

    def _refuse_past(self, feature: Feature, grid_us: int, newest_us: int) -> None:
        if newest_us >= grid_us + feature.refresh_us + self.view.source.allowed_future_us:
            message = f"as_of is too far back for '{feature.name}': events up to {format_timestamp(newest_us)} are held"
            raise UsageError(message, hint="`featureflow get --at` answers for the past", at="as_of")
