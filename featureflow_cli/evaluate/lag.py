"""How far a source's log and its views are behind its Kafka topic, partition by partition.

In offsets: where producers use transactions, their markers and what they took back count as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import NotFound
from featureflow_cli.evaluate.keeping import Kept, low_end, markers
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.topics import admin
from featureflow_cli.plan.topics import kafka_of


@dataclass(frozen=True)
class PartitionLag:
    """One partition. `first` and `end` are Kafka's: of its oldest event, and one past its newest.

    `logged`: the end in the offline log (0: it knows nothing of it). `views`: up to where each view's states
    are complete, online. `committed`: what the consumer group last reported to Kafka; nothing starts from it.
    """

    partition: int
    first: int
    end: int
    logged: int
    views: Mapping[str, int]
    committed: int | None

    @property
    def lag(self) -> int:
        """Events that are not in the offline log yet."""
        return max(0, self.end - max(self.logged, self.first))

    @property
    def gone(self) -> int:
        """Events that Kafka dropped before they were in the log."""
        return max(0, self.first - self.logged) if self.logged else 0

    def view_lag(self, view: str) -> int:
        """Events that the view's online states are not known to hold."""
        return max(0, self.end - max(self.views[view], self.first))


@dataclass(frozen=True)
class TopicLag:
    """A source's topic, as its brokers have it now. `is_replaced`: another topic than its log was read from."""

    source: str
    topic: str
    group: str
    is_replaced: bool
    partitions: Sequence[PartitionLag]

    @property
    def lag(self) -> int:
        return sum(part.lag for part in self.partitions)

    def view_lag(self, view: str) -> int:
        return sum(part.view_lag(view) for part in self.partitions)


def lag(project: Project, source: Source) -> TopicLag:
    """Of an applied source that streams from Kafka; StoreUnavailable where a store or a broker is away."""
    from featureflow_cli.sources.kafka import group_id

    kafka = kafka_of(source, project.config)
    if kafka is None:
        what = f"source '{source.name}' does not stream from Kafka"
        raise NotFound(what)
    brokers = admin(project, kafka)
    topic = brokers.require(kafka.topic)
    group = group_id(project.config.project, project.target, source.name)
    offsets = brokers.offsets(topic.name, topic.partitions)
    committed = brokers.committed(group, topic.name, topic.partitions)
    ends = project.log(source.name).snapshot().ends
    builds = project.builds()
    members = [
        Kept(view, builds[name])
        for name, view in project.repo.views.items()
        if view.source.name == source.name and name in builds
    ]
    marked = {kept.field: markers(project.online, kept) for kept in members}
    noted = project.registry.topics().get(source.name, topic.topic_id)
    return TopicLag(
        source.name,
        topic.name,
        group,
        noted != topic.topic_id,
        [
            PartitionLag(
                number,
                first,
                end,
                ends.get(number, 0),
                {kept.view.name: low_end([kept], marked, number) for kept in members},
                committed.get(number),
            )
            for number, (first, end) in sorted(offsets.items())
        ],
    )
