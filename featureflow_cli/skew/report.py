"""What a check found, per entity and feature."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureSkew:
    """`different` of the checked entities differ: by `stale` events not applied yet, or by `definition`.

    `largest` is the largest distance that was seen (1.0: another value altogether); `example` the id of one
    entity that differs, its values as `online` and `offline` have them.
    """

    feature: str
    different: int
    stale: int
    definition: int
    largest: float
    flagged: bool
    example: str = ""
    online: object = None
    offline: object = None


@dataclass(frozen=True)
class ConsistencyReport:
    """One entity's check. `lagging`: views whose states do not hold all events of the log yet.

    `unlogged`: entities left out, because their states hold events that are not in the log yet.
    """

    entity: str
    checked: int
    features: tuple[FeatureSkew, ...]
    lagging: tuple[str, ...] = ()
    unlogged: int = 0

    @property
    def flagged(self) -> list[str]:
        return [each.feature for each in self.features if each.flagged]

    @property
    def passed(self) -> bool:
        """A check that compared nothing has not passed: where a store is lost it would never fail."""
        return self.checked > 0 and not self.flagged

    def summary(self) -> str:
        """`ConsistencyReport [PASSED] entity=user checked=500 flagged_features=[]`."""
        verdict = "PASSED" if self.passed else "FAILED"
        names = ", ".join(self.flagged)
        return f"ConsistencyReport [{verdict}] entity={self.entity} checked={self.checked} flagged_features=[{names}]"
