"""What is done every so often, beside the batches."""

from dataclasses import dataclass, field

from featureflow_cli.times import Clock


@dataclass
class Rhythm:
    """When each of the slow things was done last, in microseconds of the clock."""

    clock: Clock
    _done_us: dict[str, int] = field(default_factory=dict)

    def is_due(self, what: str, every_us: int) -> bool:
        """Whether it was done last so long ago (at the start: now); it is taken to be done now."""
        now_us = self.clock()
        if now_us - self._done_us.setdefault(what, now_us) < every_us:
            return False
        self._done_us[what] = now_us
        return True

    def done(self, what: str) -> None:
        self._done_us[what] = self.clock()

    def hasten(self, what: str) -> None:
        """It is due at once."""
        self._done_us[what] = 0
