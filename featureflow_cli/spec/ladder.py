"""The ladder of resolutions: how finely the old edge of a window may be rounded (design.md 1.3).

Each rung divides the next, so that tiles coarsen from one rung to the next without cutting anything.
"""

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
STEPS_A_WINDOW = 60


def default_resolution(width_us: int) -> int:
    """The widest rung that is at most a sixtieth of `width_us`; one microsecond under 60 ms."""
    return max((rung for rung in LADDER_US if rung * STEPS_A_WINDOW <= width_us), default=EXACT_US)
