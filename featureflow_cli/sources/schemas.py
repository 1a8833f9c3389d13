"""What passes between a Schema Registry and those who read messages by its schemas."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

HEADER, MAGIC = 5, b"\0"
"""How many bytes of a message name its schema: the first, and its id in four, big endian."""
Reader = Callable[[bytes], bytes]
"""The JSON of a message (its header included). It may raise anything: what it says is the letter's detail."""


class NoSchema(Exception):
    """The registry knows no schema of that id and type; says what it has instead."""


@dataclass(frozen=True)
class Written:
    """A schema as the registry has it.

    `references`: what it refers to, and they in turn, by the names that they are called by; each after those that
    it refers to itself.
    """

    text: str
    references: Mapping[str, str]
