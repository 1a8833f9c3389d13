"""What a worker sees of the world: small protocols, so that a simulation can stand in for each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from featureflow_cli.compute.views import Source
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.errors import FeatureflowError, StillAnswering, StoreUnavailable
from featureflow_cli.offline.drafts import Draft
from featureflow_cli.offline.snapshots import Snapshot, Spans
from featureflow_cli.online.store import OnlineStore
from featureflow_cli.plan.applied import Build
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.times import Clock

if TYPE_CHECKING:
    import pyarrow as pa


NEWS_S = 0.05
"""How long a source is waited for that has no news."""


class SourceAway(StoreUnavailable):
    """The source of one worker does not answer: the others go on, and so does all of it that needs the stores only."""


class SourceSlow(SourceAway, StillAnswering):
    """It may be asked again soon, and for as long as it takes."""


@contextmanager
def asking() -> Iterator[None]:
    """Of a source, and nothing else: a store that is away concerns all workers."""
    try:
        yield
    except StoreUnavailable as err:
        kind = SourceSlow if isinstance(err, StillAnswering) else SourceAway
        raise kind(err.what, hint=err.hint, at=err.at) from None


class OffsetGone(FeatureflowError):
    """The source no longer has the offset that was asked for: the partition is to be taken up anew [reset]."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"partition {partition} no longer has the offset that was asked for")
        self.partition = partition


class Intake(Protocol):
    """Where the events of one source come from, by partition."""

    @property
    def waits(self) -> bool:
        """Whether `read` itself waits a moment for news; otherwise the loop waits between two looks."""

    def partitions(self) -> Sequence[int]:
        """The partitions that this worker holds now (of a consumer group: those assigned to it)."""

    def first(self, partition: int) -> int:
        """The offset at which a partition begins that the log does not know."""

    def read(
        self, source: Source, positions: Mapping[int, int], rows: int, wait_s: float = NEWS_S
    ) -> Mapping[int, list[RawBatch]]:
        """About `rows` events in all, as that source declares them: of each partition named, from its position on.

        Partitions without news are left out; who `waits` does so for at most `wait_s` seconds. What is held may change
        meanwhile: `on_revoke` is called first. Raises OffsetGone; SourceAway where a source does not answer that is
        asked over a connection of its own, as by `first` and `goal`.
        """

    def goal(self) -> Mapping[int, int] | None:
        """One past the last event that was there when this was first asked, per partition, whoever holds it.

        Without a partition where there is nothing more to wait for once a read finds nothing; None where it is too
        early to tell.
        """

    def behind(self, positions: Mapping[int, int]) -> Mapping[int, int]:
        """How many events each partition has from its position on, as far as that is known without asking."""

    def on_revoke(self, call: Callable[[Sequence[int]], None]) -> None:
        """Have `call` told of partitions that go to others, before they do."""

    def report(self, ends: Mapping[int, int]) -> None:
        """Tell the source what the log holds now: a report, from which nothing starts [sinks]."""

    def close(self) -> None: ...


class Log(Protocol):
    """The offline log of one source (offline/log.py)."""

    @property
    def schema(self) -> "pa.Schema": ...

    def snapshot(self) -> Snapshot: ...

    def draft(self) -> Draft: ...

    def append(
        self, rows: "pa.Table", ends: Spans, base: Snapshot, draft: Draft | None = None
    ) -> Snapshot: ...

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
    answers the one that stands; `renew(build)` answers the one that takes a build's place; `order` is the applied
    version of the definitions.
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
    renew: Callable[[int], Build]
