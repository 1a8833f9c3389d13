"""The bank of seeds: for each rule (rules.py) a schedule that breaks a law without it.

Seeds go stale when steps of the protocol come or go: then every schedule tells another story.
"""

from tests.simulation.schedules import Scene, Schedule, offset_gone, schedule, two_meanings

FAVOUR: dict[str, dict[str, int]] = {
    **{rule: {"move": 14, "beat": 4, "lose": 0, "apply": 0} for rule in ("continue", "snapshot", "trim")},
    "build": {"apply": 14},
    "longest": {"apply": 14, "lose": 14, "put": 30},
    **{rule: {"lose": 12, "cut": 6} for rule in ("idle", "acks", "first", "emptied")},
    **{
        rule: {"tick": 14, "put": 40, "apply": 0, "lose": 0, "kill": 0, "move": 0}
        for rule in ("version", "age")
    },
    "letters": {"kill": 12},
}
"""What a rule is for may be rare: schedules with more of it find it sooner."""
SCENES: dict[str, Scene] = {"meaning": two_meanings, "reset": offset_gone}
"""What a rule is for may take several things in a row: schedules that end with them."""
SEEDS: dict[str, int] = {
    "cover": 1, "overlap": 2, "confirm": 8, "version": 234, "cache": 23, "expiry": 0, "age": 53, "marker": 0,
    "shard": 10, "acks": 61, "rewind": 1, "idle": 38, "bootstrap": 5, "learn": 24, "build": 0, "sinks": 0,
    "memory": 0, "log": 0, "accepted": 69, "each": 0, "future": 0, "letters": 56, "meaning": 57,
    "trim": 0, "compare": 8, "longest": 35, "first": 0, "fate": 0, "snapshot": 57, "reset": 0,
    "continue": 500, "emptied": 23,
}  # fmt: skip
"""For each rule a seed whose schedule breaks a law without it; `python -m tests.simulation --off RULE` finds one."""


def schedule_for(rule: str | None, seed: int) -> Schedule:
    """The schedule of that seed, with more of what the rule is for."""
    if rule is None:
        return schedule(seed)
    return schedule(seed, favour=FAVOUR.get(rule, {}), scene=SCENES.get(rule))
