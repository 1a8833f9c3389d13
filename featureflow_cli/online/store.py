"""What an online store is: one hash per entity, written by compare-and-set (design.md 4 and 5).

Names used here: `entity` is the entity's name, an `id` is its join keys in declared order, percent-encoded
and joined by `,` (compute/entities.py), a `field` is one view state (short fingerprint and bootstrap number,
lower case), a blob is what compute/codec.py encodes. Every store passes the same contract tests
(tests/integration/test_online_contract.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol


class Held(NamedTuple):
    """What a store holds of one entity: the version (None: no such hash) and a blob per field asked for."""

    version: bytes | None
    blobs: tuple[bytes | None, ...]


class Write(NamedTuple):
    """Compare and set one entity's hash: applied whole if its version is still `expected`, or not at all.

    `version` is eight random bytes, never a counter. `blobs` are in the order of the call's fields, as those of a
    `Held` are; None leaves a field as it is. `newest_us` beside them is for scans by activity. `expires_us` None:
    never expires; a hash expires with the latest of the writes it took (design.md 5).
    """

    id: str
    expected: bytes | None
    version: bytes
    blobs: tuple[bytes | None, ...]
    newest_us: tuple[int, ...]
    expires_us: int | None


class OnlineStore(Protocol):
    """All methods raise StoreUnavailable where the store does not answer; none of them retries a write.

    A StoreUnavailable also ends the connection (design.md 4 [fate, first]): the next call makes a new one,
    and a writer reads the markers there before it writes anything, for what it wrote before may be gone.
    """

    @property
    def shards(self) -> int:
        """On how many servers the states lie; each has markers of its own."""

    def read(self, entity: str, ids: Sequence[str], fields: Sequence[str]) -> list[Held]:
        """One `Held` per id, in order; one round trip a call and, where there are any, one snapshot."""

    def write(self, entity: str, fields: Sequence[str], writes: Sequence[Write]) -> list[bool]:
        """True where the write was applied, False where the version had moved; per write, in order.

        The ids of one call are distinct.
        """

    def scan(self, entity: str, field: str, since_us: int) -> Iterator[list[tuple[str, bytes]]]:
        """All (id, blob) whose newest event is at or after `since_us`, in chunks, in order of id."""

    def sample(self, entity: str, field: str, count: int, seed: int) -> list[str]:
        """Up to `count` ids that hold `field`; the same ones for the same content and seed."""

    def count(self, entity: str, field: str) -> int:
        """How many entities hold `field`."""

    def marker(self, shard: int, field: str) -> dict[int, int] | None:
        """The field's marker on that shard: {partition: end}, or None where it was not bootstrapped there."""

    def mark(self, shard: int, field: str, ends: Mapping[int, int]) -> None:
        """Raise the marker to `ends` (creates it; an end only rises)."""

    def shard_of(self, entity: str, id: str) -> int: ...

    def population(self, field: str, feature: str, grid_us: int) -> bytes | None:
        """The published population of a rank at a grid point (design.md 1.14), or None."""

    def withdrawals(self, field: str) -> int:
        """How often populations of the field were withdrawn; read before the states that make a new one."""

    def publish(self, field: str, feature: str, grid_us: int, population: bytes, withdrawals: int) -> None:
        """Publish it, unless one stands or some were withdrawn since; keeps those of the last hours only."""

    def withdraw(self, field: str, after_us: int) -> None:
        """Forget the field's populations of grid points after `after_us`: an event came late.

        Called after the states are written: whoever looked at them before cannot publish any more.
        """

    def fields(self) -> set[str]:
        """All fields of which there is a state, a marker or a population, whoever wrote them; walks all there is."""

    def drop(self, field: str) -> None:
        """Forget all states and markers of that field (a view's earlier build)."""

    def teardown(self) -> None:
        """Remove everything of this project, and nothing else."""

    def bytes_held(self) -> int:
        """Approximate size of the states of this project."""

    def ping(self) -> None: ...

    def close(self) -> None: ...
