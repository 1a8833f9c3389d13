"""All that is left to chance, as data: a world's settings and a list of tokens, both drawn from one seed.

A token is (kind, arguments…): a stretch of one process's steps, or something that happens to the world. So a failure
replays from its seed, and shrinks by leaving tokens out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from featureflow_cli.times import HOUR_US, SECOND_US
from tests.simulation.processes import How

Token = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Settings:
    """`skew_us`: how far the second process's clock is ahead. `restarts`: at the end all start anew once more."""

    partitions: int
    processes: int
    shards: int
    rows: int
    skew_us: int
    commit_us: int
    restarts: bool


@dataclass(frozen=True)
class Schedule:
    seed: int
    settings: Settings
    tokens: tuple[Token, ...]


Scene = Callable[[Random, Settings], tuple[Token, ...]]
"""What a schedule may end with: a few tokens in an order that chance alone rarely comes to."""
OFTEN = {"kill": 2, "move": 4, "lose": 3, "cut": 1, "grow": 1, "trim": 2, "forget": 2, "apply": 3}
"""Of these a schedule has a random half: most failures need few kinds of faults, but those often ("swarm")."""
ALWAYS = {"put": 20, "beat": 6, "arrive": 3, "tick": 6}
LENGTHS = (10, 20, 40, 80)
LONG = (80, 160, 320)


def schedule(
    seed: int,
    lengths: tuple[int, ...] = LENGTHS,
    favour: Mapping[str, int] = MappingProxyType({}),
    scene: Scene | None = None,
) -> Schedule:
    """`favour`: weights of kinds of tokens that this schedule has in any case, for who looks for something certain;
    `scene` is played after them.
    """
    chance = Random(seed)
    settings = Settings(
        partitions=chance.choice([1, 2, 2, 3]),
        processes=chance.choice([1, 2, 2, 3]),
        shards=chance.choice([1, 2, 2, 3]),
        rows=chance.choice([1, 2, 3, 5]),
        skew_us=chance.choice([-4, 0, 4]) * HOUR_US,
        commit_us=chance.choice([1, 5, 3_600]) * SECOND_US,
        restarts=chance.random() < 0.4,
    )
    often = ALWAYS | {kind: weight for kind, weight in OFTEN.items() if chance.random() < 0.5} | favour
    share, trouble = chance.choice([0.15, 0.3, 0.45]), chance.choice([0.02, 0.1, 0.25])
    tokens: list[Token] = [("put", _event(chance)) for _ in range(3)]
    actor = 0
    for _ in range(chance.choice(lengths)):
        if chance.random() < share:
            kind = chance.choices([*often], [*often.values()])[0]
            tokens.append((kind, _event(chance) if kind == "put" else _numbers(chance)))
            continue
        actor = chance.randrange(settings.processes) if chance.random() < 0.4 else actor
        steps = chance.choice([1, 2, 4, 8, 16, 32])
        how = chance.randrange(1, len(How)) if chance.random() < trouble else 0
        tokens.append(("run", (actor, steps, how)))
    if scene is not None:
        tokens += scene(chance, settings)
    return Schedule(seed, settings, tuple(tokens))


def two_meanings(chance: Random, settings: Settings) -> tuple[Token, ...]:
    """One process decides an event that a change of the meaning is about; another, which has learned of that, decides
    it too and writes it online, and then the first one hears that the partition is no longer its own, and commits.
    """
    partition = chance.randrange(settings.partitions)
    first = chance.randrange(settings.processes)
    other = (first + 1) % settings.processes
    lacks = chance.choice([2, 3])
    return (
        ("move", (partition, first, 0)),
        ("beat", (first, 0, 0)),
        ("put", (partition, chance.randrange(2), 0, False, lacks, 0)),
        ("run", (first, chance.choice([16, 32]), 0)),
        ("apply", (chance.randrange(2), 0, 0)),
        ("move", (partition, other, 0)),
        ("kill", (other, 0, 0)),  # who starts anew has learned
        ("run", (other, chance.choice([32, 64, 96]), 0)),
        ("beat", (first, 0, 0)),
        ("run", (first, 32, 0)),
    )


def offset_gone(chance: Random, settings: Settings) -> tuple[Token, ...]:
    """One process decides an event and logs it; another, which held the partition before and has not heard that it no
    longer does, goes on where that event was: the topic no longer has it, only what comes after it, a repetition.
    """
    partition = chance.randrange(settings.partitions)
    first = chance.randrange(settings.processes)
    other = (first + 1) % settings.processes
    item = chance.randrange(2)
    return (
        ("move", (partition, first, 0)),
        ("beat", (first, 0, 0)),
        ("run", (first, chance.choice([64, 96]), 0)),
        ("move", (partition, other, 0)),
        ("beat", (other, 0, 0)),
        ("put", (partition, item, 0, False, 0, 0)),
        ("run", (other, chance.choice([64, 96]), 0)),
        ("trim", (partition, 0, 0)),
        ("put", (partition, item, 0, True, 0, 0)),
        ("run", (first, 32, 0)),
    )


def _numbers(chance: Random) -> tuple[int, ...]:
    return tuple(chance.randrange(2520) for _ in range(3))  # 2520: any small modulus of it is fair


def _event(chance: Random) -> tuple[int, ...]:
    """(user and partition, item, hours late, is a repetition, what it lacks, which repetition)."""
    late = chance.choice([0, 0, 0, 0, 1, 4, 9, 20, 22, 30, -1, -2, -3, -5])
    lacks = chance.choice([0] * 8 + [1, 2, 3])
    return (
        chance.randrange(3),
        chance.randrange(2),
        late,
        chance.random() < 0.3,
        lacks,
        chance.randrange(2520),
    )
