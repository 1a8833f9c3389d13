"""The line between who streams a topic and the process that reads it; and the process, where it needs no broker."""

import errno
import inspect
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli import errors
from featureflow_cli.errors import DefinitionError, FeatureflowError, Problem, StoreUnavailable
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.decode import decode_all
from featureflow_cli.sources.kafka_consumer import Gone
from featureflow_cli.sources.letters import Letter, Reason, to_table
from featureflow_cli.sources.reader_process import ReaderProcess, _Answers, ends
from featureflow_cli.sources.shared_rows import divided, filled, hand_over, put_together, taken_over
from featureflow_cli.spec.models import KafkaStream
from tests.unit.sources.sources import TOPIC, make_source

SOURCE = make_source({"n": "int64", "t": "string"}, kafka=TOPIC)
NOWHERE = KafkaStream(topic="events", bootstrap_servers="127.0.0.1:1")
REFUSED = NOWHERE.model_copy(
    update={"config": {"session.timeout.ms": 3_600_000, "max.poll.interval.ms": 60_000}}
)
"""By a consumer: to an administrator's client, which an intake has first, it makes no difference."""


# ---- the line


class Answers:
    """What the process does, here: whatever its reader finds comes out of the other end of its line."""

    def __init__(self) -> None:
        self.line, theirs = (Connection(end.detach()) for end in socketpair())
        self.line.send((NOWHERE, {}, "unit", "events"))
        self._answers = _Answers(theirs)

    def to_read(self, reader: "Found | Failing") -> Sequence[Any]:
        self._answers._reader = reader  # type: ignore[assignment]
        self._answers._answer("read", SOURCE, {}, 1, 0.0)
        told: Sequence[Any] = self.line.recv()
        return told

    def close(self) -> None:
        self._answers._consumer.close()


class Found:
    """Stands for a `TopicReader` that has found this."""

    def __init__(self, found: Mapping[int, Sequence[RawBatch]]) -> None:
        self._found = found

    def read(self, *_: Any) -> Mapping[int, Sequence[RawBatch]]:
        return self._found


class Failing:
    """Stands for one that has met this."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, *_: Any) -> None:
        raise self._error


@pytest.fixture(scope="module")
def answers() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.close()


@st.composite
def batches(draw: st.DrawFn) -> RawBatch:
    """Events, what does not fit, and what could not be read as any (None), each with the time of its record."""
    kinds = [b'{"n": 1, "t": "a"}', b'{"n": 2, "t": "\xc3\xa4"}', b'{"n": "x"}', b"{", None]
    came = draw(st.lists(st.sampled_from(kinds), max_size=8))
    start = draw(st.integers(0, 2**40))
    offsets = start + np.cumsum([draw(st.integers(1, 3)) for _ in came], dtype=np.int64)
    is_read = np.array([message is not None for message in came], bool)
    return RawBatch(
        [message for message in came if message is not None],
        offsets[is_read],
        int([start, *offsets][-1]) + draw(st.integers(1, 3)),
        draw(st.sampled_from([7, offsets * 1000])),
        to_table([Letter(int(each), Reason.UNDECODABLE, "no schema", b"?") for each in offsets[~is_read]]),
    )


@given(st.dictionaries(st.integers(0, 3), st.lists(batches(), min_size=1, max_size=3), max_size=3))
def test_what_is_found_comes_out_of_the_line_as_it_was(
    answers: Answers, raw: Mapping[int, Sequence[RawBatch]]
) -> None:
    found = {
        partition: [
            RawBatch(content, each.offsets, each.end, each.recorded_at_us, each.letters)
            for each, content in zip(several, decode_all(several, SOURCE), strict=True)
        ]
        for partition, several in raw.items()
    }
    kind, divided, *_ = answers.to_read(Found(found))
    received = put_together(divided, taken_over(answers.line)) if divided else {}
    assert kind == "found"
    assert not answers.line.poll(0)
    assert [*received] == [*found]
    for partition, several in found.items():
        for sent, got in zip(several, received[partition], strict=True):
            assert got.end == sent.end
            assert got.content.rows.equals(sent.content.rows)
            assert got.content.letters.equals(sent.content.letters)
            rows, letters = got.content.offsets, got.content.letters.column("offset").to_numpy()
            assert got.offsets.tolist() == sorted([*rows, *letters])
            for some in (got.offsets, rows, letters):
                assert times(got, some) == times(sent, some)


def times(batch: RawBatch, offsets: Any) -> list[int]:
    """When the events and letters there were recorded, where all of them or each for itself was."""
    found: list[int] = np.broadcast_to(batch.recorded_of(offsets), offsets.shape).tolist()
    return found


TEXTS = st.text(max_size=20)
PROBLEMS = st.lists(st.builds(Problem, TEXTS, TEXTS, TEXTS, TEXTS), min_size=1, max_size=3)
ERRORS = [
    each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, FeatureflowError)
]
PLAIN = [each for each in ERRORS if each is not DefinitionError]


@given(
    st.builds(
        lambda kind, what, hint, at: kind(what, hint=hint, at=at), st.sampled_from(PLAIN), TEXTS, TEXTS, TEXTS
    )
    | st.builds(DefinitionError, PROBLEMS)
    | st.builds(Gone, st.integers(0, 100))
    | st.builds(OSError, TEXTS)
)
def test_an_error_is_told_with_all_that_it_says(answers: Answers, error: Exception) -> None:
    """Also one as if nobody were there: it is the reader's own, and no end of the line."""
    kind, told, *_ = answers.to_read(Failing(error))
    assert kind == "error"
    assert type(told) is type(error)
    assert (str(told), vars(told)) == (str(error), vars(error))


# ---- the process


@contextmanager
def process(kafka: KafkaStream) -> Iterator[ReaderProcess]:
    reader = ReaderProcess(kafka, {}, "unit", "events", lambda _: None)
    try:
        yield reader
    finally:
        reader.close()


def is_refused(reader: ReaderProcess) -> None:
    """Which only a process can tell that has started."""
    with pytest.raises(DefinitionError, match=r"Kafka's client refuses the settings.*session\.timeout\.ms"):
        reader.read(SOURCE, {}, 1, 0.0)


def at_once(_: ReaderProcess) -> None: ...


def once_it_is_gone(reader: ReaderProcess) -> None:
    reader._process.wait(30)


@pytest.mark.parametrize("when", [at_once, once_it_is_gone])
def test_settings_that_the_client_refuses_are_told_by_the_first_question(
    when: Callable[[ReaderProcess], None],
) -> None:
    with process(REFUSED) as reader:
        when(reader)
        is_refused(reader)


def test_what_lies_in_the_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "redis", "numpy", "featureflow_cli"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with process(REFUSED) as reader:
        is_refused(reader)


def test_it_hears_no_signal_of_its_group_from_its_first_moment_on(capfd: pytest.CaptureFixture[str]) -> None:
    with process(REFUSED) as reader:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(reader._process.pid, number)
        is_refused(reader)
    assert capfd.readouterr() == ("", "")
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_it_prints_is_not_among_what_its_owner_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    said = tmp_path / "said"
    (tmp_path / "sitecustomize.py").write_text(f"print('noise', flush=True); open({str(said)!r}, 'w')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with process(REFUSED) as reader:
        is_refused(reader)
    assert said.exists()
    assert capfd.readouterr() == ("", "")


def test_one_that_takes_long_to_start_is_told_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one in its place would take as long, and none would ever come to an answer."""
    go_on = waiting_for_a_file(tmp_path, monkeypatch)
    with process(REFUSED) as reader:
        first = reader._process
        with monkeypatch.context() as short:
            short.setattr("featureflow_cli.sources.reader_process.HANGS_S", 0.1)
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match=r"takes longer than 0\.1 s to start"):
                    reader.read(SOURCE, {}, 1, 0.0)
        go_on.touch()
        is_refused(reader)
        assert reader._process is first


def test_one_that_never_starts_is_given_up_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting_for_a_file(tmp_path, monkeypatch)
    with process(REFUSED) as reader:
        first = reader._process
        monkeypatch.undo()  # the next one waits for nothing
        with monkeypatch.context() as short:
            short.setattr("featureflow_cli.sources.reader_process.HANGS_S", 0.1)
            short.setattr("featureflow_cli.sources.reader_process.STARTS_S", 0.1)
            with pytest.raises(StoreUnavailable, match=r"did not answer for 0\.1 s"):
                reader.read(SOURCE, {}, 1, 0.0)
        assert first.returncode == -signal.SIGKILL
        is_refused(reader)


def waiting_for_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that what is started from now on waits for, before it imports anything."""
    go_on = folder / "go on"
    # a process that stands still at its start: nobody is woken there, so it looks again and again
    waiting = f"import os, time\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)"
    (folder / "sitecustomize.py").write_text(waiting)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return go_on


@pytest.mark.parametrize("is_told", [False, True], ids=["in what it tells", "before it hands over"])
def test_one_that_stops_in_the_midst_of_an_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    with process(REFUSED) as reader:
        is_refused(reader)
        reader._line.close()
        # of this line only: what is started in place of the process may take longer
        monkeypatch.setattr("featureflow_cli.sources.reader_process.HANGS_S", 1.0)
        reader._line, theirs = ends()
        monkeypatch.undo()
        if is_told:
            theirs.send(("found", [None], frozenset(), True, {}))
        else:
            os.write(theirs.fileno(), b"\0\0")
        patience = threading.Timer(10, theirs.close)
        patience.start()
        with pytest.raises(StoreUnavailable, match="did not answer for"):
            reader.read(SOURCE, {}, 1, 0.0)
        patience.cancel()
        is_refused(reader)


def test_one_that_dies_of_a_mistake_says_so_and_another_takes_its_place(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with process(NOWHERE) as reader:
        first = reader._process
        reader._line.send(5)
        with pytest.raises(StoreUnavailable, match="reads topic 'events' ended with code 1") as caught:
            reader.read(SOURCE, {}, 1, 0.0)
        assert "stderr" in caught.value.hint
        assert "TypeError" in capfd.readouterr().err
        assert reader._process.pid != first.pid
        assert reader._process.poll() is None
    assert reader._process.returncode == 0


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """No more than so many, for as long as this lasts."""
    free = [os.dup(0) for _ in range(count + 1)]
    for each in free:
        os.close(each)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("left", range(2))
def test_without_a_descriptor_for_what_is_handed_over_the_store_is_away(left: int) -> None:
    """None for the memory itself, or none for the line that it comes by; and none for another process."""
    (content,) = decode_all([RawBatch([b'{"n": 1}'], np.arange(1), 1, 7)], SOURCE)
    shares, tables = divided({0: [RawBatch(content, np.arange(1), 1, 7)]})
    with process(REFUSED) as reader, filled(tables) as memory:
        is_refused(reader)
        reader._line.close()
        reader._line, theirs = (Connection(end.detach()) for end in socketpair())
        theirs.send(("found", shares, frozenset({0}), True, {0: 1}))
        hand_over(memory, theirs)
        with descriptors_left(left), pytest.raises(StoreUnavailable, match="Too many open files"):
            reader.read(SOURCE, {}, 1, 0.0)
        theirs.close()
        is_refused(reader)


def start() -> None:
    with process(REFUSED):
        pass


def fill() -> None:
    filled([]).close()


@pytest.mark.parametrize("takes", [start, fill])
def test_the_hint_is_at_what_there_is_too_little_of(
    takes: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with descriptors_left(0), pytest.raises(StoreUnavailable, match="Too many open files") as caught:
        takes()
    assert "ulimit -n" in caught.value.hint

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    # a limit of memory would stop the test itself, wherever it asks for some first
    monkeypatch.setattr("subprocess.Popen", refuse)
    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(StoreUnavailable, match="Cannot allocate memory") as caught:
        takes()
    assert "memory" in caught.value.hint
