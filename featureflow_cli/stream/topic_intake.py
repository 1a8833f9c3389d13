"""New events from the Kafka topic of a source: its partitions are those of the topic, its offsets Kafka's."""

import time
from collections.abc import Callable, Mapping, Sequence

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.kafka import group_id
from featureflow_cli.sources.kafka_admin import Admin
from featureflow_cli.sources.kafka_consumer import Gone
from featureflow_cli.sources.reader_process import ReaderProcess
from featureflow_cli.sources.registered_messages import readers
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.stream.outside import NEWS_S, OffsetGone, asking

CHECK_S = 5.0
"""How often it is looked whether the topic is still the one that it was."""


class TopicIntake:
    """A member of the source's consumer group (`stream.outside.Intake`).

    `note_topic` is told the topic's id, and answers the one that the source's offsets are of: another topic
    under the same name is refused. `readers` read its messages, where a registry keeps their schemas.
    """

    waits = True

    def __init__(
        self,
        name: tuple[str, str | None, str],
        kafka: KafkaStream,
        environ: Mapping[str, str],
        note_topic: Callable[[str], str],
    ) -> None:
        """`name`: (project, target, source); nothing is asked yet. DefinitionError for settings that are refused."""
        self._source = name[-1]
        self._kafka = kafka
        self._note_topic = note_topic
        self.readers = readers(kafka, environ, self._source)
        self._revoke: Callable[[Sequence[int]], None] = lambda _: None
        self._admin = Admin(kafka, environ)
        self._reader = ReaderProcess(kafka, environ, group_id(*name), self._source, self._on_revoke)
        self._known: frozenset[int] = frozenset()  # held when the topic was last looked at
        self._checked_s = 0.0  # when that was, 0 where it was in vain
        self._goal: Mapping[int, int] | None = None

    def partitions(self) -> Sequence[int]:
        """Those assigned by the group, as of the last `read`; none before the first."""
        return sorted(self._known)

    @asking()
    def first(self, partition: int) -> int:
        return self._reader.watermarks(partition)[0]

    @asking()
    def read(
        self, source: Source, positions: Mapping[int, int], rows: int, wait_s: float = NEWS_S
    ) -> Mapping[int, list[RawBatch]]:
        """Also the place where the group is heard, so it is called without pause."""
        try:
            found = self._reader.read(source, positions, rows, wait_s)
        except Gone as gone:
            self._check_topic()
            self._check_end(gone.partition, positions.get(gone.partition, 0))
            raise OffsetGone(gone.partition) from None
        finally:
            lost = self._known - self._reader.held
            self._known -= lost
        self._look_at_topic(has_news=bool(found))
        return found

    @asking()
    def goal(self) -> Mapping[int, int] | None:
        """Of all partitions, whoever holds them: the group alone says who reads, not what was read.

        None while it joins: who leaves then may go unheard, and the group waits for it for a whole session.
        """
        if not self._reader.joined:
            return None
        if self._goal is None:
            partitions = self._check_topic()  # who holds nothing has not looked yet
            self._goal = self._ends(partitions)
        return self._goal

    def behind(self, positions: Mapping[int, int]) -> Mapping[int, int]:
        """As of the last fetch; aborted messages and markers included."""
        found = {partition: self._reader.high(partition) for partition in positions if partition >= 0}
        return {
            partition: max(0, high - positions[partition])
            for partition, high in found.items()
            if high is not None
        }

    def on_revoke(self, call: Callable[[Sequence[int]], None]) -> None:
        self._revoke = call

    def report(self, ends: Mapping[int, int]) -> None:
        self._reader.report(ends)

    def close(self) -> None:
        self._reader.close()
        if self.readers is not None:
            self.readers.close()

    def _on_revoke(self, partitions: Sequence[int]) -> None:
        """One may come and go within a `read`: then it was never named as held, and nobody has anything of it.

        Or go and come: then its topic may have been made anew meanwhile, and is looked at.
        """
        going = [partition for partition in partitions if partition in self._known]
        if going:
            self._revoke(going)
            self._known -= set(going)

    def _look_at_topic(self, has_news: bool) -> None:
        """Before partitions are named as held, and every CHECK_S; what answers otherwise may be late with that.

        Not twice: a topic that was away may be another one when it is back. Who holds none looks for its goal only.
        """
        held, was_found = frozenset(self._reader.held), self._checked_s > 0
        if held != self._known:
            self._check_topic()
            self._known = held
        elif (held or self._goal) and time.monotonic() - self._checked_s > CHECK_S:
            try:
                self._check_goal(self._check_topic())
            except StoreUnavailable:
                if not (has_news and was_found):
                    raise
                self._checked_s = time.monotonic()

    def _check_topic(self) -> int:
        """How many partitions it has; FeatureflowError where it is another topic: its offsets mean other events."""
        self._checked_s = 0.0
        found, partitions = self._admin.identity(self._kafka.topic)
        noted = self._note_topic(found)
        self._checked_s = time.monotonic()
        if found == noted:
            return partitions
        topic = self._kafka.topic
        what = (
            f"topic '{topic}' is not the one that source '{self._source}' was streamed from (its id is {found},"
            f" not {noted}): it was deleted and created anew, or it is another cluster's"
        )
        hint = (
            "give the source another name and apply, so that it starts afresh; or point it to the old topic"
        )
        raise FeatureflowError(what, hint=hint)

    def _ends(self, partitions: int) -> dict[int, int]:
        """Of the partitions that have had events."""
        offsets = self._admin.offsets(self._kafka.topic, partitions)
        return {partition: end for partition, (_, end) in offsets.items() if end}

    def _check_goal(self, partitions: int) -> None:
        """FeatureflowError where the broker has less than the goal was: nobody would ever get there."""
        if not self._goal:
            return
        ends = self._ends(partitions)
        for partition, goal in self._goal.items():
            end = ends.get(partition, 0)
            if end < goal:
                what = (
                    f"partition {partition} of topic '{self._kafka.topic}' ends at offset {end}, but ended at offset"
                    f" {goal} as this run began: the broker has lost some events of source '{self._source}'"
                )
                raise FeatureflowError(what, hint="have them sent again; another run takes what is there now")

    def _check_end(self, partition: int, position: int) -> None:
        """FeatureflowError where the broker's partition ends before what was read of it."""
        end = self._reader.watermarks(partition)[1]
        if position > end:
            what = (
                f"partition {partition} of topic '{self._kafka.topic}' ends at offset {end}, but events of source"
                f" '{self._source}' up to offset {position} have been read: the broker has lost some"
            )
            hint = "restore the topic; or give the source another name and apply, so that it starts afresh"
            raise FeatureflowError(what, hint=hint)
