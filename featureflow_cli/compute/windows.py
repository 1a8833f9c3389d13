"""What a window covers, and how fine its old edge is: the one place that decides it (design.md 1.2, 1.3, 1.10).

A window of width W read at T covers [floor(T - W, resolution), T). The resolution is a rung of the ladder of
spec/ladder.py, whose names are passed on here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from featureflow_cli.spec.ladder import EXACT_US, LADDER_US, default_resolution

__all__ = [
    "BEGINNING_US",
    "EXACT_US",
    "LADDER_US",
    "Window",
    "default_resolution",
    "grid_point",
    "presence_windows",
    "window_start",
]

BEGINNING_US = -(2**63) + 1
"""Before every event: where a `forever` window starts. (The smallest int64 itself is kept for 'no event'.)"""


if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Moment = TypeVar("Moment", int, npt.NDArray[np.int64])
    """One moment, or a column of them."""


@dataclass(frozen=True, order=True)
class Window:
    """`width_us` is None for `forever`; `text` is what the user wrote and `{window}` stands for."""

    width_us: int | None
    resolution_us: int
    text: str

    def start(self, t_us: Moment) -> Moment | int:
        """First instant that this window covers when read at `t_us`; an event at `t_us` itself is not in it."""
        return (
            BEGINNING_US if self.width_us is None else window_start(t_us, self.width_us, self.resolution_us)
        )


def window_start(t_us: Moment, width_us: int, resolution_us: int) -> Moment:
    """floor(t - width, resolution); works on int64 numpy arrays as well (`//` floors in both)."""
    return (t_us - width_us) // resolution_us * resolution_us


def presence_windows(ttl_us: int | None, windows: Iterable[Window]) -> tuple[Window, ...]:
    """An event within any of these makes its entity present: the ttl, and the view's own windows (design.md 1.10).

    None where there is no ttl: then any event does.
    """
    return () if ttl_us is None else (Window(ttl_us, default_resolution(ttl_us), "ttl"), *windows)


def grid_point(t_us: Moment, refresh_us: int) -> Moment:
    """The moment at which a rank read at `t_us` is evaluated: floor(t, refresh) (design.md 1.14)."""
    return window_start(t_us, 0, refresh_us)
