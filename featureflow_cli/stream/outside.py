"""What a worker sees of the world: small protocols, so that a simulation can stand in for each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.offline.snapshots import Snapshot, Spans
from featureflow_cli.online.store import OnlineStore
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.times import Clock

if TYPE_CHECKING:
    import pyarrow as pa


class Intake(Protocol):
    """Where the events of one source come from, by partition."""

    def partitions(self) -> Sequence[int]:
        """The partitions that there are now."""

    def read(self, partition: int, position: int, rows: int) -> list[RawBatch]:
        """About `rows` events from the offset `position` on, in batches that follow on one another.

        An empty list: there is nothing there yet.
        """


class Log(Protocol):
    """The offline log of one source (offline/log.py)."""

    @property
    def schema(self) -> "pa.Schema": ...

    def snapshot(self) -> Snapshot: ...

    def append(self, rows: "pa.Table", ends: Spans, base: Snapshot) -> Snapshot: ...

    def raise_meaning(self, base: Snapshot, order: int | None = None) -> Snapshot: ...

    def newest_us(self, snapshot: Snapshot, partition: int) -> int | None: ...

    def recent(self, snapshot: Snapshot, partition: int, since_us: int) -> "pa.Table": ...


class Letters(Protocol):
    """The dead letters of all sources (offline/letters.py)."""

    def append(self, letters: "pa.Table") -> int: ...


@dataclass(frozen=True)
class Outside:
    """All of it, for the worker of one source. `log` None: a table that others keep is its own log.

    `replayed(snapshot, partition, start, end)` yields the log's rows of those offsets, in order;
    `below(snapshot, floor)` makes a relation in the engine of the accepted events below the floor (and of the
    source's history before `until`), for bootstraps; `set_floor(build, ends)` records a bootstrap's floor, and
    answers the one that stands; `order` is the applied version of the definitions.
    """

    intake: Intake
    online: OnlineStore
    log: Log | None
    letters: Letters
    engine: Engine
    clock: Clock
    order: int
    replayed: "Callable[[Snapshot, int, int, int], Iterator[pa.RecordBatch]]"
    below: Callable[[Snapshot | None, Mapping[int, int]], str]
    set_floor: Callable[[int, Mapping[int, int]], Mapping[int, int]]
