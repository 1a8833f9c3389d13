"""The real world of a project's workers: stores, files and engines, opened once and shared."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from featureflow_cli.compute.views import Source
from featureflow_cli.evaluate import tables
from featureflow_cli.evaluate.log import accepted
from featureflow_cli.evaluate.project import Project
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.offline.snapshots import Snapshot
from featureflow_cli.plan.manifest import ListedFile
from featureflow_cli.plan.topics import kafka_of
from featureflow_cli.sources.files import PARTITION
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.stream.intake import FileIntake, list_new
from featureflow_cli.stream.outside import Intake, Letters, Outside
from featureflow_cli.stream.progress import Progress
from featureflow_cli.stream.replays import WithReplays
from featureflow_cli.stream.told import Told

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow_cli.offline.log import OfflineLog
    from featureflow_cli.stream.topic_intake import TopicIntake

REPLAYED_ROWS = 100_000


class Ground:
    """`close` closes the intakes and the engine; the online store and the registry are the project's.

    Members of a consumer group are taken over from the ground `before`, where the topic and its settings are the
    same: to leave and to join again would have the whole group share out its partitions twice.
    """

    def __init__(self, project: Project, before: "Ground | None" = None) -> None:
        self._project = project
        self._engine = project.engine()
        self._intakes: list[Intake] = []
        self._topics: dict[str, tuple[KafkaStream, TopicIntake]] = {}
        self._before = {} if before is None else before._topics

    def close(self, other: "Ground | None" = None) -> None:
        """`other` keeps what it shares with this one."""
        shared = [] if other is None else [intake for _, intake in other._topics.values()]
        left = [intake for intake in self._intakes if not any(intake is each for each in shared)]
        with ThreadPoolExecutor(
            max(1, len(left)), "closing"
        ) as together:  # brokers may keep each for a while
            for closing in [together.submit(intake.close) for intake in left]:
                closing.result()
        self._engine.close()

    def outside(self, source: Source, progress: Progress) -> Outside:
        """What the worker of that source sees; the log and the letters are its own: commits use them in a thread.

        Letters of a history are counted in `progress`, for no worker sees them.
        """
        project, engine = self._project, self._engine
        log = project.log(source.name) if source.streamed else None
        letters = self._told(source)

        def replayed(snapshot: Snapshot, partition: int, start: int, end: int) -> "Iterator[pa.RecordBatch]":
            with project.engine() as own:  # it is busy until the last row is taken
                relation = accepted(own, source, snapshot, below={partition: end})
                rows = f"SELECT * FROM {relation} WHERE _offset >= {start} ORDER BY _offset"
                yield from own.batches(rows, rows=REPLAYED_ROWS)

        def refuse(found: "pa.Table") -> None:
            progress.history_letters += letters.append(found)

        def below(snapshot: Snapshot | None, floor: Mapping[int, int]) -> str:
            if source.batch is None or not source.streamed:
                return accepted(engine, source, snapshot, () if snapshot is None else None, below=floor)
            kept = tables.history(project, source, refuse=refuse)
            past = accepted(engine, source, None, kept, name="history")
            logged = accepted(engine, source, snapshot, below=floor)
            return f"(SELECT * FROM {past} UNION ALL SELECT * FROM {logged})"

        return Outside(
            intake=self._intake(source, log),
            online=project.online,
            log=log,
            letters=letters,
            engine=engine,
            clock=project.clock,
            order=project.applied.version,
            replayed=replayed,
            below=below,
            set_floor=project.registry.set_floor,
            renew=partial(project.registry.renew, at_us=project.clock()),
        )

    def _told(self, source: Source) -> Letters:
        """Where the source's letters go: the table of all letters, and its own topic if it has one."""
        kafka, table = kafka_of(source, self._project.config), DeadLetters(self._project.letters_place)
        if kafka is None or kafka.dead_letter_topic is None:
            return table
        from featureflow_cli.sources.kafka_producer import LetterTopic

        return Told(LetterTopic(kafka, self._project.environ), table)

    def _intake(self, source: Source, log: "OfflineLog | None") -> Intake:
        """Files or a topic, and the letters of the source that were asked to be replayed."""
        project, intake = self._project, self._events(source, log)
        self._intakes.append(intake)
        if log is None:
            return intake
        topic = self._topics.get(source.name)
        readers = None if topic is None else topic[1].readers
        return WithReplays(intake, project.registry, DeadLetters(project.letters_place), source.name, readers)

    def _events(self, source: Source, log: "OfflineLog | None") -> Intake:
        project = self._project
        kafka = kafka_of(source, project.config)
        if kafka is not None:
            settings, intake = self._before.get(source.name, (None, None))
            if intake is None or settings != kafka:
                from featureflow_cli.stream.topic_intake import TopicIntake

                noted = partial(project.registry.note_topic, source.name)
                name = (project.config.project, project.target, source.name)
                intake = TopicIntake(name, kafka, project.environ, noted)
            self._topics[source.name] = (kafka, intake)
            return intake

        own = None if log is None else project.log(source.name)

        def listed(reached: int) -> list[ListedFile]:
            if own is None:
                return tables.listed(project, source)
            passed = own.snapshot().ends.get(PARTITION, 0)
            return list_new(project.registry, project.root, source, project.clock, passed, reached)

        return FileIntake(project.root, listed)
