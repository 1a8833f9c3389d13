"""Where a worker can be made to die, for those who want to see that it may: boundaries of the protocol's steps.

`FEATUREFLOW_DIE_AT=written` kills the process (SIGKILL: nothing is flushed, no handler runs) when it first comes
to that boundary, `written:3` when it comes there for the third time.
"""

import os
import signal
from collections import Counter

VARIABLE = "FEATUREFLOW_DIE_AT"
POINTS = ("bootstrapped", "taken_up", "polled", "half_written", "written", "half_marked", "marked", "lettered",
          "committed")  # fmt: skip
"""In the order in which a batch comes to them; `half_written`: an entity's writes are sent, and not answered yet;
`half_marked`: a view has its markers."""

_passed: Counter[str] = Counter()


def reached(point: str) -> None:
    """Die here, if that was asked for."""
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return
    name, _, count = asked.partition(":")
    if name == point:
        _passed[point] += 1
        if _passed[point] >= int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
