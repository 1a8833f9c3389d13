"""Messages that something has damaged on the way: bytes behind the header changed, ends cut off."""

import random


def mutilated(good: bytes, count: int = 2_000, seed: int = 5) -> list[bytes]:
    """So many of one good message in a registry's wire format, whose first five bytes stay."""
    dice, found = random.Random(seed), []
    for _ in range(count):
        some = bytearray(good)
        for _ in range(dice.choice([1, 1, 4])):
            some[dice.randrange(5, len(some))] = dice.randrange(256)
        found.append(bytes(some[: dice.choice([len(some), dice.randrange(len(some))])]))
    return found
