"""What is read ahead is what was asked for: whatever comes between, nothing is left out, doubled or another's."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.sources import registered_messages, topic_reader
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.decode import decode
from featureflow_cli.sources.kafka_consumer import Gone
from featureflow_cli.sources.registered_messages import Form, Readers, as_json
from featureflow_cli.sources.schemas import HEADER, NoSchema, Written
from featureflow_cli.sources.topic_reader import TopicReader
from tests.unit.sources.sources import TOPIC, make_source
from tests.unit.sources.topic import PIECE, Topic, batch_of

AHEAD_BYTES = 150
NUMBERS = make_source({"n": "int64"}, kafka=TOPIC)
TEXTS = make_source({"t": "string", "n": "string"}, kafka=TOPIC)
SCHEMA = b"\0\0\0\0\7"
VALUES: dict[str, Any] = {
    "event": {"n": 1, "t": "a"},
    "event of texts": {"n": "x", "t": "b"},
    "event of numbers": {"n": 2, "t": []},
    "large": {"n": 3, "t": "x" * 100},
}
MESSAGES = {name: json.dumps(value).encode() for name, value in VALUES.items()}
MESSAGES |= {"broken": b"{", "none": b""}
LARGEST = HEADER + max(map(len, MESSAGES.values()))
PARTITIONS, AFTER = st.integers(0, 2), st.integers(0, 4)


@pytest.fixture(autouse=True, scope="module")
def _small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topic_reader, "PIECE", PIECE)
        patch.setattr(topic_reader, "DECODED_AT_ONCE", PIECE - 1)
        patch.setattr(topic_reader, "AHEAD_BYTES", AHEAD_BYTES)
        yield


class Schemas:
    """Stands for the registry: of every id it has a schema, by which a message is what follows its header."""

    def __init__(self) -> None:
        self.away: Callable[[], None] = lambda: None

    def written(self, number: int, kind: str) -> Written:
        self.away()
        return Written("", {})

    def close(self) -> None: ...


def through(schemas: Schemas) -> Readers:
    return Readers(schemas, Form("Plain", "PLAIN", "json", lambda _: lambda message: message[HEADER:]))


def whole(raw: RawBatch, source: Source, readers: Readers | None) -> tuple[pa.Table, pa.Table]:
    """Rows and letters, as if they had come in one piece."""
    decoded = decode(raw if readers is None else as_json(raw, readers), source)
    return decoded.rows, decoded.letters


class Reading(RuleBasedStateMachine):
    """An owner with a position for each partition, in whose answers nothing may be missing, doubled or of another."""

    def __init__(self) -> None:
        super().__init__()
        self.topic, self.schemas, self.source = Topic(), Schemas(), NUMBERS
        self.positions: dict[int, int] = {}
        self.left_at = dict.fromkeys(self.topic.ends, 0)  # where the next one to hold it goes on
        self.last: tuple[Source, Mapping[int, int], int] = (NUMBERS, {}, 0)  # what a reader reads ahead for
        self.error: tuple[Exception, Mapping[int, int]] | None = (
            None  # that it met, and where it was to read on
        )

    @initialize(is_registered=st.booleans(), names=st.lists(st.sampled_from([*MESSAGES]), max_size=20))
    def start(self, is_registered: bool, names: Sequence[str]) -> None:
        self.readers = through(self.schemas) if is_registered else None
        for partition in self.topic.ends:
            self.put(partition, names)
        self.reader = TopicReader(self.topic, self.readers)  # type: ignore[arg-type]  # stands for it
        self.topic.held = set(self.topic.ends)
        self.follow()

    # ---- what happens to the topic and its group

    @rule(partition=PARTITIONS, names=st.lists(st.sampled_from([*MESSAGES]), min_size=1, max_size=12))
    def put(self, partition: int, names: Sequence[str]) -> None:
        for number, name in enumerate(names):
            known = b"" if self.readers is None or name == "none" else SCHEMA
            self.topic.put(partition, known + MESSAGES[name], gap=number % 5 == 4)

    @rule(partition=PARTITIONS, count=st.integers(1, 20))
    def put_what_has_no_schema(self, partition: int, count: int) -> None:
        for _ in range(count):
            self.topic.put(partition, MESSAGES["large"])

    @rule(partition=PARTITIONS, after=AFTER, comes_back=st.booleans())
    def take_from_it(self, partition: int, after: int, comes_back: bool) -> None:
        def goes() -> None:
            self.positions.pop(partition, None)
            self.topic.held.discard(partition)
            if comes_back:
                self.give_it(partition, 1)

        self.topic.comes(goes, after)

    @rule(partition=PARTITIONS, after=AFTER)
    def give_it(self, partition: int, after: int) -> None:
        self.topic.comes(lambda: self.topic.held.add(partition), after)

    @rule(most=st.integers(0, PIECE))
    def be_slow(self, most: int) -> None:
        self.topic.most = most

    @rule(error=st.builds(StoreUnavailable, st.just("away")) | st.builds(Gone, PARTITIONS), after=AFTER)
    def fail(self, error: Exception, after: int) -> None:
        self.topic.comes(lambda: self._meet(error), after)

    @rule(after=AFTER)
    def fail_to_know_schemas(self, after: int) -> None:
        def is_away() -> None:
            self.schemas.away = lambda: None
            self._meet(StoreUnavailable("the registry is away"))

        def goes() -> None:
            if self.readers is not None:
                self.readers._known.clear()
                self.schemas.away = is_away

        self.topic.comes(goes, after)

    def _meet(self, error: Exception) -> None:
        self.error = error, self.topic.asked
        raise error

    # ---- what its owner does

    @rule()
    def follow(self) -> None:
        for partition in self.topic.held - self.positions.keys():
            self.positions[partition] = self.left_at[partition]

    @rule(moved=st.dictionaries(PARTITIONS, st.none() | st.integers(0, 40), min_size=1, max_size=2))
    def move(self, moved: Mapping[int, int | None]) -> None:
        for partition, at in moved.items():
            if at is None:
                self.positions.pop(partition, None)
            else:
                self.positions[partition] = min(at, self.topic.ends[partition])

    @rule(
        rows=st.integers(1, 30),
        is_of_texts=st.sampled_from([None, None, False, True]),
        busy=st.integers(0, 6),
    )
    def read(self, rows: int, is_of_texts: bool | None = None, busy: int = 0) -> None:
        """After something else, while it reads ahead; by another source than before, now and then."""
        for _ in range(busy):
            if self.reader.wants_more:
                self.reader.read_ahead()
        if is_of_texts is not None:
            self.source = replace(TEXTS if is_of_texts else NUMBERS)
        asked = dict(self.positions)
        source, expected, wanted = self.last
        self.last = self.source, asked, rows
        if source != self.source or asked != expected:
            self.error = None
        met = self.error
        try:
            found = self.reader.read(self.source, asked, rows, 0.0)
        except (StoreUnavailable, Gone) as error:
            assert self.error is not None, "it is not asked for any more"
            assert self.error == (error, asked), "all that came before it is answered"
            self.error = None
            return
        assert met is None or met[1] != asked, "it is told"
        self.last = self.source, asked | {each: some[-1].end for each, some in found.items()}, rows
        messages = [self._check(each, asked, some) for each, some in found.items()]
        assert sum(map(len, messages)) <= max(rows, wanted)
        assert sum(len(message) for some in messages for message in some) < AHEAD_BYTES + PIECE * LARGEST

    def _check(self, partition: int, asked: Mapping[int, int], batches: Sequence[RawBatch]) -> list[bytes]:
        """The messages that a partition's batches are of, which are as if all had come in one piece."""
        start, end = asked[partition], batches[-1].end
        there = [message for message in self.topic.messages[partition] if start <= message[0] < end]
        expected = batch_of(there)
        rows, letters = whole(expected, self.source, self.readers and through(Schemas()))
        assert partition in self.topic.held
        assert pa.concat_tables([each.content.rows for each in batches]).equals(rows)
        assert pa.concat_tables([each.content.letters for each in batches]).equals(letters)
        recorded: list[int] = []
        for batch in batches:
            offsets = np.union1d(batch.offsets, batch.letters.column("offset").to_numpy())
            recorded += np.broadcast_to(batch.recorded_of(offsets), offsets.shape).tolist()
            assert all(start <= offset < batch.end for offset in offsets)
            start = batch.end
        assert recorded == expected.recorded_at_us.tolist()  # type: ignore[union-attr]
        if partition in self.positions:  # it was not taken from it meanwhile
            self.positions[partition] = self.left_at[partition] = end
        return expected.content  # type: ignore[no-any-return]

    def teardown(self) -> None:
        """In the end all is read, whatever happened."""
        if not hasattr(self, "reader"):
            return
        self.topic.most = PIECE
        for _ in range(200):
            self.topic.held = set(self.topic.ends)
            self.follow()
            if self.positions == self.topic.ends:
                return
            self.read(10)
        pytest.fail(f"at {self.positions} of {self.topic.ends}")


TestReading = Reading.TestCase


# ---- when it reads, and for how long


class Clock:
    """Moves by what a read waits for; a topic that has news does not have it wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, topic: Topic) -> None:
        self.now_s, self.waits, read = 1_000.0, list[float](), topic.read

        def timed(positions: Mapping[int, int], rows: int, wait_s: float) -> dict[int, list[RawBatch]]:
            found = read(positions, rows, wait_s)
            self.waits.append(wait_s)
            self.now_s += 0 if found else wait_s
            return found

        monkeypatch.setattr(topic, "read", timed)
        monkeypatch.setattr(topic_reader, "time", SimpleNamespace(monotonic=lambda: self.now_s))


def reader_of(topic: Topic, count: int, readers: Readers | None = None) -> TopicReader:
    """Of a topic with so many events in its partition 0."""
    topic.held = {0}
    for _ in range(count):
        topic.put(0, MESSAGES["event"])
    return TopicReader(topic, readers)  # type: ignore[arg-type]  # stands for it


def count(found: Mapping[int, Sequence[RawBatch]]) -> int:
    return sum(len(batch.content.rows) for batches in found.values() for batch in batches)


def test_what_was_read_ahead_is_answered_without_reading_it_again() -> None:
    """Also where the source is another object that says the same, as one that was sent."""
    topic = Topic()
    reader = reader_of(topic, 10)
    assert count(reader.read(NUMBERS, {0: 0}, 8, 0.0)) == 8
    assert reader.wants_more
    assert reader.read_ahead() == 2
    topic.most = 0
    assert count(reader.read(replace(NUMBERS), {0: 8}, 6, 0.0)) == 2


def fail() -> None:
    raise Gone(0)


def test_nothing_is_read_before_the_first_question_and_after_an_error() -> None:
    topic = Topic()
    reader = reader_of(topic, 10)
    assert not reader.wants_more
    assert count(reader.read(NUMBERS, {0: 0}, 6, 0.0)) == 6
    topic.comes(fail)
    assert reader.wants_more
    assert reader.read_ahead() == 0
    assert not reader.wants_more
    with pytest.raises(Gone):
        reader.read(NUMBERS, {0: 6}, 6, 0.0)
    assert not reader.wants_more
    assert count(reader.read(NUMBERS, {0: 6}, 6, 0.0)) == 4


@pytest.mark.parametrize(
    ("source", "positions"),
    [(TEXTS, {0: 0, 1: 0}), (NUMBERS, {1: 0}), (NUMBERS, {0: 1, 1: 0}), (NUMBERS, {})],
)
def test_an_error_is_forgotten_by_who_asks_for_something_else(
    source: Source, positions: Mapping[int, int]
) -> None:
    topic = Topic()
    reader = reader_of(topic, 0)
    for asked in ({0: 0, 1: 0}, {}):
        reader.read(NUMBERS, asked, 6, 0.0)
        topic.comes(fail)
        reader.read_ahead()
        assert reader.read(source if asked else TEXTS, positions if asked else {}, 6, 0.0) == {}


def test_what_is_held_of_a_partition_that_goes_while_it_is_asked_for_is_no_answer() -> None:
    topic = Topic()
    reader = reader_of(topic, 10)
    topic.held.add(1)
    topic.put(1, MESSAGES["event"])
    topic.comes(lambda: topic.held.discard(0), after=1)
    found = reader.read(NUMBERS, {0: 0, 1: 0}, 20, 0.0)
    assert [*found] == [1]
    topic.comes(lambda: topic.held.add(0))
    found = reader.read(NUMBERS, {0: 0, 1: 1}, 20, 0.0)
    assert [offset for batch in found[0] for offset in batch.offsets][:PIECE] == [0, 1, 2, 3]


def test_few_events_are_gathered_for_a_while_since_the_last_answer_and_many_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = Topic()
    clock, reader = Clock(monkeypatch, topic), reader_of(topic, 0)
    reader.read(NUMBERS, {0: 0}, 6, 0.05)
    started_s = clock.now_s
    topic.put(0, MESSAGES["event"])
    assert count(reader.read(NUMBERS, {0: 0}, 6, 0.05)) == 1
    assert clock.now_s - started_s == pytest.approx(0.05)
    for _ in range(100):
        topic.put(0, MESSAGES["event"])
    started_s = clock.now_s
    assert count(reader.read(NUMBERS, {0: 1}, 2 * PIECE, 0.05)) == 2 * PIECE
    assert clock.now_s == started_s


def test_what_is_asked_for_late_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic()
    clock, reader = Clock(monkeypatch, topic), reader_of(topic, 0)
    reader.read(NUMBERS, {0: 0}, 6, 0.05)
    clock.now_s += 0.05
    started_s = clock.now_s
    reader.read(NUMBERS, {0: 0}, 6, 0.05)
    assert clock.now_s == started_s


def test_it_reads_ahead_for_a_while_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group is to notice whose owner never asks again."""
    topic = Topic()
    clock, reader = Clock(monkeypatch, topic), reader_of(topic, 0)
    reader.read(NUMBERS, {0: 0}, 6, 0.05)
    started_s = clock.now_s
    while reader.wants_more and clock.now_s < started_s + 60:
        reader.read_ahead()
    assert clock.now_s - started_s == pytest.approx(topic_reader.AHEAD_S, abs=0.1)
    topic.put(0, MESSAGES["event"])
    assert count(reader.read(NUMBERS, {0: 0}, 6, 0.05)) == 1


@pytest.mark.parametrize("are_there", [True, False])
@pytest.mark.parametrize(("most", "pieces"), [(9, [9]), (2, [2, 2, 2, 2, 1])])
def test_a_registry_that_takes_long_is_asked_for_some_schemas_a_question(
    monkeypatch: pytest.MonkeyPatch, are_there: bool, most: int, pieces: list[int]
) -> None:
    """What it has answered is known: nobody waits for all of them at once, nor for ever for those that are nowhere."""
    topic, schemas, now_s = Topic(), Schemas(), [0.0]
    each_s, count = 4.0, 9

    def slow() -> None:
        now_s[0] += each_s
        if not are_there:
            raise NoSchema

    schemas.away = slow
    monkeypatch.setattr(topic_reader, "PIECE", count)  # one piece needs all of them
    for module in (topic_reader, registered_messages):  # four seconds a schema
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    topic.most = count
    for number in range(count):
        topic.put(0, b"\0" + number.to_bytes(4, "big") + MESSAGES["event"])
    reader, told, end, events = reader_of(topic, 0, through(schemas)), 0, 0, list[int]()
    while end < count:
        asked_s = now_s[0]
        try:
            found = reader.read(NUMBERS, {0: end}, count, 0.0)
        except StoreUnavailable:
            told += 1
            assert told < count
            topic.most = 0  # what was received comes again, not at once, and perhaps in other pieces
            assert reader.read(NUMBERS, {0: end}, count, 0.0) == {}
            topic.most = most
        else:
            end = found[0][-1].end
            events += [len(batch.offsets) for batch in found[0]]
        assert now_s[0] - asked_s <= topic_reader.SCHEMAS_S + each_s
    assert now_s[0] == count * each_s  # each was asked for once
    assert told > 0
    assert events == (pieces if are_there else [0] * len(pieces))
