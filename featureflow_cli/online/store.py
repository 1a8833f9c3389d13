"""What an online store is: one hash per entity, written by compare-and-set (design.md 4 and 5).

Names used here: `entity` is the entity's name, an `id` is its join keys in declared order, percent-encoded
and joined by `,` (compute/entities.py), a `field` is one view state (short fingerprint and bootstrap number,
lower case), a blob is what compute/codec.py encodes. Every store passes the same contract tests
(tests/integration/test_online_contract.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.packed import Packed
from featureflow_cli.compute.records import Words

NO_VERSION = 0
"""As the version that is expected: there is no such hash."""
FOREVER_US = 2**63 - 1


class Held(NamedTuple):
    """What a store holds of one entity: the version (None: no such hash) and a blob per field asked for."""

    version: bytes | None
    blobs: tuple[bytes | None, ...]


@dataclass(frozen=True)
class Writes:
    """Compare and set many hashes of one entity, column by column: at `i` of each column is what is of `ids[i]`.

    A hash is written whole if its version is still the one `expected` (NO_VERSION: there is none), or not at all. A
    version is eight random bytes as a number, never a counter. `blobs` and `newest_us` have a column for each of the
    call's fields; a null blob leaves the field as it is, and `newest_us` beside a blob is for scans by activity.
    `expires_us` FOREVER_US: never expires; a hash expires with the latest of the writes it took (design.md 5).
    """

    ids: Sequence[str]
    expected: Words
    versions: Words
    blobs: tuple[Packed, ...]
    newest_us: tuple[Ints, ...]
    expires_us: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Ints) -> "Writes":
        """Those at these places, in their order."""
        chosen = pa.array(places)
        return Writes(
            [self.ids[at] for at in places.tolist()],
            self.expected[places],
            self.versions[places],
            tuple(column.take(chosen) for column in self.blobs),
            tuple(column[places] for column in self.newest_us),
            self.expires_us[places],
        )


def version_words(versions: Sequence[bytes | None]) -> Words:
    """Versions as `Writes` has them."""
    none = bytes(8)
    return np.frombuffer(b"".join(none if each is None else each for each in versions), "<u8")


Send = Callable[[str, Sequence[str], Writes], Callable[[], Bools]]
"""`OnlineStore.write`, whose writes are under way when it returns; what it returns awaits the answer."""


@contextmanager
def at_once(write: Callable[[str, Sequence[str], Writes], Bools]) -> Iterator[Send]:
    """`OnlineStore.sending` of a store that has done a write when it has taken it."""

    def send(entity: str, fields: Sequence[str], writes: Writes) -> Callable[[], Bools]:
        applied = write(entity, fields, writes)
        return lambda: applied

    yield send


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

    def write(self, entity: str, fields: Sequence[str], writes: Writes) -> Bools:
        """True where a hash was written, False where its version had moved; in order. The ids are distinct."""

    def sending(self) -> AbstractContextManager[Send]:
        """`write` in two halves, on one connection, for who has something else to do while the store works.

        The answers are awaited in the order in which the writes were sent, and all of them before anything else is
        asked; an exception before that leaves the writes as they may be, and ends the connection as a StoreUnavailable
        does.
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
