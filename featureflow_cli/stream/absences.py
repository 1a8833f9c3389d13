"""Who is away is asked again after a while, each time after a longer one."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from featureflow_cli.errors import StillAnswering, StoreUnavailable
from featureflow_cli.times import SECOND_US, Clock

STORES = ""
"""Those that all workers need, as one; no source has this name."""
ATTEMPTS = 5
"""How often somebody is asked with `once`."""
LONGEST_S = 5.0


@dataclass
class _Absence:
    error: StoreUnavailable
    failures: int = 0
    until_us: int = 0


@dataclass
class Absences:
    """Of the stores (STORES), and of sources by their name. `away` is told of each once, without `once`."""

    once: bool
    away: Callable[[StoreUnavailable], None]
    clock: Clock
    _of: dict[str, _Absence] = field(default_factory=dict)

    def note(self, who: str, err: StoreUnavailable) -> float:
        """How many seconds not to ask again: few, and as often as it takes, of one who answers little by little."""
        absence = self._of.setdefault(who, _Absence(err))
        absence.error = err
        is_new = absence.failures == 0
        absence.failures = 1 if isinstance(err, StillAnswering) else absence.failures + 1
        if not self.once and is_new:
            self.away(err)
        longest_s: float = min(0.1 * 2**absence.failures, LONGEST_S)
        pause_s = longest_s * random.uniform(0.5, 1)  # noqa: S311  (so that workers do not come back as one)
        absence.until_us = self.clock() + int(pause_s * SECOND_US)
        return pause_s

    def give_up(self, who: Iterable[str]) -> None:
        """With `once`, raise what was last heard of one of them who did not answer often enough."""
        for absence in (self._of[each] for each in who if each in self._of):
            if self.once and absence.failures >= ATTEMPTS:
                raise absence.error

    def over(self, who: str) -> None:
        """It is there."""
        self._of.pop(who, None)

    def is_asked(self, who: str) -> bool:
        """Whether it is there, or may be by now; a clock that was put back does not keep anybody away."""
        absence = self._of.get(who)
        return absence is None or not 0 < absence.until_us - self.clock() <= LONGEST_S * SECOND_US
