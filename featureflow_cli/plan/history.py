"""What is there to build from, as far as an estimate needs it: from files' statistics, no event is read."""

from collections.abc import Iterable
from dataclasses import dataclass

from featureflow_cli.times import DAY_US

_ONE_IN = 100
_LEAST_GAP_US = 365 * DAY_US
"""Which events stand apart: a hundredth at most, by a year at least."""


@dataclass(frozen=True)
class History:
    """What a source's offline log holds now; times are of events.

    `apart` of the `events` are so far before `starts_us` that they say nothing of how events come: the clock of a
    device stood at 1970, or a year was mistyped.
    """

    events: int
    starts_us: int | None
    ends_us: int | None
    apart: int = 0


def history(files: Iterable[tuple[int, int | None, int | None]]) -> History:
    """Of files with so many rows between two moments (None where nobody knows).

    Events stand apart where they are few, and the gap behind them is long, and longer than all that follows.
    """
    listed = list(files)
    events = sum(rows for rows, _, _ in listed)
    known = sorted(
        (first_us, last_us, rows)
        for rows, first_us, last_us in listed
        if first_us is not None and last_us is not None
    )
    if not known:
        return History(events, None, None)
    ends_us = max(last_us for _, last_us, _ in known)
    starts_us, apart, passed = known[0][0], 0, 0
    reached_us = starts_us
    for first_us, last_us, rows in known:
        gap_us = first_us - reached_us
        if passed * _ONE_IN <= events and gap_us > max(ends_us - first_us, _LEAST_GAP_US):
            starts_us, apart = first_us, passed
        reached_us = max(reached_us, last_us)
        passed += rows
    return History(events, starts_us, ends_us, apart)
