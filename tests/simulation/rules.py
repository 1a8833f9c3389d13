"""The rules of the protocol (design.md 4 and 5, in brackets there), each switched off at one small place.

`without(name)` patches the production code that keeps the rule or, where a store keeps it, breaks the stand-in's
promise. What remains is the production code with one rule less: some schedule must then break a law.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

from tests.simulation.promises import Promises
from tests.simulation.rules_offline import OFFLINE
from tests.simulation.rules_online import ONLINE

IMPOSSIBLE = {
    "prior": "one thread writes, a batch at a time: its states until all are acknowledged, then its marker, and only"
    " then is the next one handed over",
    "floors": "no header entry is ever dropped, so there are no numbered floors (12 bytes a partition are cheap)",
}
"""Rules that this architecture cannot break, and why."""
PROMISED = tuple(field.name for field in fields(Promises))
RULES = (*ONLINE, *OFFLINE, *PROMISED)


@contextmanager
def without(rule: str) -> Iterator[Promises]:
    """While this lasts, the rule is off; what the stand-ins still promise."""
    if rule in PROMISED:
        yield replace(Promises(), **{rule: False})
        return
    with (ONLINE | OFFLINE)[rule]():
        yield Promises()
