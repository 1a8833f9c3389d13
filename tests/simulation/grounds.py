"""What a simulated process opens: a project, and the ground of its workers. Everything in it is a stand-in's."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.views import Repo, Source
from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.evaluate.project import Project
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.offline.log import OfflineLog
from featureflow_cli.offline.snapshots import Snapshot
from featureflow_cli.plan.applied import Applied
from featureflow_cli.plan.registry import Registry
from featureflow_cli.stream.outside import Outside
from featureflow_cli.stream.progress import Progress
from tests.simulation.definitions import config, variants
from tests.simulation.engine import BELOW, SimEngine
from tests.simulation.processes import How
from tests.simulation.shards import Store
from tests.simulation.tables import SimPlace
from tests.simulation.topic import Member

if TYPE_CHECKING:
    from tests.simulation.world import World

REPLAYED_ROWS = 2
LETTERS = "dead-letters"


class _Memory:
    """`plan.registry_file.RegistryFile` on a database in memory; a process stands still before each transaction."""

    def __init__(self, connection: Connection, pause: Callable[[str], How]) -> None:
        self.path = Path("registry.db")
        self._connection = connection
        self._pause = pause

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        if self._pause("read the registry") is How.UNSENT:
            raise _away()
        yield self._connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        how = self._pause("write the registry")
        if how is How.UNSENT:
            raise _away()
        self._connection.execute("BEGIN")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        if how is How.UNHEARD:
            raise _away()


def _away() -> StoreUnavailable:
    return StoreUnavailable("the registry does not answer")


def registry(connection: Connection, pause: Callable[[str], How]) -> Registry:
    """The production registry, on that database."""
    made = Registry("registry.db", "sim", None)
    made._file = _Memory(connection, pause)  # type: ignore[assignment]
    return made


class SimProject(Project):
    """A process's project: its own connections, and nothing remembered."""

    def __init__(self, world: "World", slot: int, pause: Callable[[str], How]) -> None:
        super().__init__(Path("/sim"), None, {}, lambda: world.clock_of(slot))
        self.world = world
        self.slot = slot
        self.pause = pause
        stream = config().stream.model_copy(update={"commit_interval": world.settings.commit_us})
        self.__dict__["config"] = config().model_copy(update={"stream": stream})
        self.__dict__["registry"] = registry(world.registry_db, pause)
        self.__dict__["online"] = Store(world.cluster, pause)

    def log(self, source: str) -> OfflineLog:
        place = SimPlace(self.world.disk, source, self.pause)
        return OfflineLog(place, self.repo.sources[source], meaning_order=self.applied.version)  # type: ignore[arg-type]

    def _compile_applied(self, applied: Applied) -> Repo:
        return variants()[applied.definitions]


class SimGround:
    """`stream.ground.Ground`."""

    def __init__(self, project: SimProject, before: "SimGround | None" = None) -> None:
        self._project = project
        self._engine = SimEngine()
        self._members: list[Member] = []

    def close(self, other: "SimGround | None" = None) -> None:
        self._engine.close()
        for member in self._members:
            member.close()

    def outside(self, source: Source, progress: Progress) -> Outside:
        project, world = self._project, self._project.world
        member = world.join(project.slot, project.pause)
        log = project.log(source.name)
        self._members.append(member)

        def below(snapshot: Snapshot | None, floor: Mapping[int, int]) -> str:
            assert snapshot is not None
            rows = _rows(world, snapshot, log.schema)
            partition, offset = rows.column("_partition").to_numpy(), rows.column("_offset").to_numpy()
            ends = np.array([floor.get(each, 0) for each in partition.tolist()], np.int64)
            self._engine.register(BELOW, rows.filter(pa.array(offset < ends)))
            return BELOW

        def replayed(snapshot: Snapshot, partition: int, start: int, end: int) -> Iterator[pa.RecordBatch]:
            rows = _rows(world, snapshot, log.schema)
            offset = rows.column("_offset").to_numpy()
            chosen = (rows.column("_partition").to_numpy() == partition) & (offset >= start) & (offset < end)
            order = np.flatnonzero(chosen)[np.argsort(offset[chosen], kind="stable")]
            table = rows.take(pa.array(order)).combine_chunks()
            for first in range(0, table.num_rows, REPLAYED_ROWS):
                project.pause("read the log on")
                yield table.slice(first, REPLAYED_ROWS).to_batches()[0]

        return Outside(
            intake=member,
            online=project.online,
            log=log,
            letters=DeadLetters(SimPlace(world.disk, LETTERS, project.pause)),
            engine=self._engine,  # type: ignore[arg-type]
            clock=project.clock,
            order=project.applied.version,
            replayed=replayed,
            below=below,
            set_floor=project.registry.set_floor,
            renew=partial(project.registry.renew, at_us=project.clock()),
        )


def _rows(world: "World", snapshot: Snapshot, schema: pa.Schema) -> pa.Table:
    """The rows of that version."""
    return pa.concat_tables(
        [schema.empty_table(), *(world.disk.contents[file.name] for file in snapshot.files)]
    )
