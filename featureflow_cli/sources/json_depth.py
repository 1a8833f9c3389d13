"""How deep messages are nested: too deep ones are set aside before any reader follows them."""

import re

import numpy as np

from featureflow_cli.sources.arrays import Ints

DEEPEST = 256
"""A message nested deeper is no event: else it would depend on the reader whether it is one."""
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|$)|([\[\]{}])', re.DOTALL)


def long_enough(sizes: Ints, start: int, stop: int) -> list[int]:
    """Which messages have room for DEEPEST brackets that are opened and closed; the others need not be looked at."""
    found: list[int] = (np.flatnonzero(sizes[start:stop] > 2 * DEEPEST) + start).tolist()
    return found


def may_be_deep(message: bytes) -> bool:
    return len(message) > DEEPEST and message.count(b"[") + message.count(b"{") > DEEPEST


def depth(text: str) -> int:
    """How deep brackets are nested, outside of texts."""
    level = deepest = 0
    for bracket in _BRACKET.findall(text):
        level += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket, 0)
        deepest = max(deepest, level)
    return deepest
