"""What a window covers, and how fine its old edge is: the one place that decides it (design.md 1.2, 1.3, 1.10).

A window of width W read at T covers [floor(T - W, resolution), T). The resolution is a rung of a ladder in
which each rung divides the next, so that tiles coarsen from one rung to the next without cutting anything.
"""

from dataclasses import dataclass

from featureflow_cli.times import DAY_US, HOUR_US, MILLISECOND_US, MINUTE_US, SECOND_US

LADDER_US = (
    1,
    MILLISECOND_US,
    10 * MILLISECOND_US,
    100 * MILLISECOND_US,
    SECOND_US,
    10 * SECOND_US,
    MINUTE_US,
    5 * MINUTE_US,
    15 * MINUTE_US,
    HOUR_US,
    6 * HOUR_US,
    DAY_US,
)
"""Microseconds; the first rung is `exact`, the step of windows under 60 ms too."""

EXACT_US = 1
BEGINNING_US = -(2**63) + 1
"""Before every event: where a `forever` window starts. (The smallest int64 itself is kept for 'no event'.)"""
STEPS_A_WINDOW = 60


@dataclass(frozen=True, order=True)
class Window:
    """`width_us` is None for `forever`; `text` is what the user wrote and `{window}` stands for."""

    width_us: int | None
    resolution_us: int
    text: str

    def start(self, t_us: int) -> int:
        """First instant that this window covers when read at `t_us`; an event at `t_us` itself is not in it."""
        return BEGINNING_US if self.width_us is None else window_start(t_us, self.width_us, self.resolution_us)


def window_start(t_us: int, width_us: int, resolution_us: int) -> int:
    """floor(t - width, resolution); works on int64 numpy arrays as well (`//` floors in both)."""
    return (t_us - width_us) // resolution_us * resolution_us


def default_resolution(width_us: int) -> int:
    """The widest rung that is at most a sixtieth of `width_us`; one microsecond under 60 ms."""
    return max((rung for rung in LADDER_US if rung * STEPS_A_WINDOW <= width_us), default=EXACT_US)


def presence_start(t_us: int, ttl_us: int, window_starts: list[int]) -> int:
    """First instant at which an event still makes its entity present at `t_us` (design.md 1.10)."""
    return min([window_start(t_us, ttl_us, default_resolution(ttl_us)), *window_starts])
