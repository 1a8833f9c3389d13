"""The real world of a project's workers: stores, files and engines, opened once and shared."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from featureflow_cli.compute.views import Source
from featureflow_cli.evaluate import tables
from featureflow_cli.evaluate.log import accepted
from featureflow_cli.evaluate.project import Project
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.offline.snapshots import Snapshot
from featureflow_cli.plan.manifest import ListedFile
from featureflow_cli.sources.files import PARTITION
from featureflow_cli.stream.intake import FileIntake, list_new
from featureflow_cli.stream.outside import Intake, Outside
from featureflow_cli.stream.replays import WithReplays

if TYPE_CHECKING:
    import pyarrow as pa

REPLAYED_ROWS = 100_000


class Ground:
    """`close` closes the engine; the online store and the registry are the project's."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._engine = project.engine()
        self._letters = DeadLetters(project.letters_path)

    def close(self) -> None:
        self._engine.close()

    def outside(self, source: Source) -> Outside:
        """What the worker of that source sees."""
        project, engine = self._project, self._engine
        log = project.log(source.name) if source.streamed else None

        def listed(reached: int) -> list[ListedFile]:
            if log is None:
                return tables.listed(project, source)
            passed = log.snapshot().ends.get(PARTITION, 0)
            return list_new(project.registry, project.root, source, project.clock, passed, reached)

        def replayed(snapshot: Snapshot, partition: int, start: int, end: int) -> "Iterator[pa.RecordBatch]":
            with project.engine() as own:  # it is busy until the last row is taken
                relation = accepted(own, source, snapshot, below={partition: end})
                rows = f"SELECT * FROM {relation} WHERE _offset >= {start} ORDER BY _offset"
                yield from own.batches(rows, rows=REPLAYED_ROWS)

        def below(snapshot: Snapshot | None, floor: Mapping[int, int]) -> str:
            if source.batch is None or not source.streamed:
                return accepted(engine, source, snapshot, () if snapshot is None else None, below=floor)
            kept = tables.history(project, source, refuse=self._letters.append)
            past = accepted(engine, source, None, kept, name="history")
            logged = accepted(engine, source, snapshot, below=floor)
            return f"(SELECT * FROM {past} UNION ALL SELECT * FROM {logged})"

        intake: Intake = FileIntake(project.root, source, listed)
        if log is not None:
            intake = WithReplays(intake, project.registry, self._letters, source.name)
        return Outside(
            intake=intake,
            online=project.online,
            log=log,
            letters=self._letters,
            engine=engine,
            clock=project.clock,
            order=project.applied.version,
            replayed=replayed,
            below=below,
            set_floor=project.registry.set_floor,
        )
