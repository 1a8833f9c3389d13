"""A topic is read by a process of its own: what makes rows of messages holds Python's lock all the time.

The two ends talk over a pair of sockets, one question at a time; rows are handed over in memory (shared_rows.py). Only
before partitions go to others the process speaks first, and waits until its owner has let them go. It ends with its
owner, however that one ends.
"""

import gc
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from socket import SO_RCVTIMEO, SOL_SOCKET, socketpair
from struct import pack
from typing import IO, Any, TypeVar

import pyarrow as pa

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.kafka import CLOSE_S, consumer_config
from featureflow_cli.sources.kafka_consumer import Gone, GroupConsumer
from featureflow_cli.sources.registered_messages import readers
from featureflow_cli.sources.shared_rows import divided, filled, hand_over, put_together, scarce, taken_over
from featureflow_cli.sources.topic_reader import TopicReader
from featureflow_cli.spec.models import KafkaStream

T = TypeVar("T")

GONE = (EOFError, ConnectionError)
"""What is raised where there is nobody at the other end."""
ENDED = (EOFError, OSError)
"""And where the line is of no use to this end."""
COLLECT_AFTER = 100_000
"""New objects before the collector looks for cycles, at both ends. A batch makes ten thousand writes of five objects
each, in no cycle; by default all that is alive would be looked through several times a batch (4% of the CPU)."""
HANGS_S = 30.0
"""Whoever has not answered for so long does not: all that the process does has a shorter limit, once it has started.
How long that takes is up to the machine: another one in its place would take as long."""
STARTS_S = 300.0
"""But not so long: whoever has not started by then waits for something that does not come."""
_GONE_S = 1.0
"""How long a process may take to be gone that has closed its end."""


class ReaderProcess:
    """Answers what `TopicReader` and `GroupConsumer` do. A process that dies is told of, and started again.

    `held`, `joined` and `high` are as of the last answer; partitions go inside of `read` only.
    """

    def __init__(
        self,
        kafka: KafkaStream,
        environ: Mapping[str, str],
        group: str,
        source: str,
        on_revoke: Callable[[Sequence[int]], None],
    ) -> None:
        """What the settings are refused for (DefinitionError) is raised by the first question."""
        self.held: frozenset[int] = frozenset()
        self.joined = False
        self._highs: Mapping[int, int] = {}
        self._settings = (kafka, dict(environ), group, source)
        self._on_revoke = on_revoke
        self._going: Sequence[int] = ()  # partitions whose owner is still to be told
        self._source: Source | None = None  # as the process knows it
        self._start()

    def read(
        self, source: Source, positions: Mapping[int, int], rows: int, wait_s: float
    ) -> dict[int, list[RawBatch]]:
        """As `TopicReader.read`; StoreUnavailable where the process died."""
        if self._going:
            self._let_go(self._going)
        news = None if source is self._source else source
        found: dict[int, list[RawBatch]] = self._ask("read", news, dict(positions), rows, wait_s)
        self._source = source
        return found

    def watermarks(self, partition: int) -> tuple[int, int]:
        found: tuple[int, int] = self._ask("watermarks", partition)
        return found

    def high(self, partition: int) -> int | None:
        return self._highs.get(partition)

    def report(self, ends: Mapping[int, int]) -> None:
        with suppress(*ENDED):
            self._line.send(("report", dict(ends)))

    def close(self) -> None:
        with suppress(*ENDED):
            self._line.send(("close",))
        self._end(CLOSE_S + 1)

    def _start(self) -> None:
        """Modules are found where this process finds them. StoreUnavailable where none can be started now."""
        self._source, self._has_started, self._begun_s = None, False, time.monotonic()
        program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
        try:
            line, theirs = ends()
            with theirs, _unheard():
                self._process = subprocess.Popen(  # noqa: S603  (our own command line)
                    [
                        sys.executable,
                        *(["-I"] if sys.flags.isolated else []),
                        "-c",
                        program,
                        str(theirs.fileno()),
                    ],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
        except OSError as err:
            what = f"no process can be started that reads topic '{self._settings[0].topic}': {err}"
            raise StoreUnavailable(what, hint=f"it is tried again; {scarce(err)}") from None
        self._line = line
        with suppress(*ENDED):
            self._line.send(self._settings)

    def _end(self, patience_s: float) -> int:
        """The exit code of the process, which is no more, if by force."""
        self._line.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        self._process.kill()
        return self._process.wait()

    def _ask(self, kind: str, *words: Any) -> Any:
        if self._line.closed:  # when the last one ended, no other could be started
            self._start()
        if not self._has_started:
            self._await_start()
        with suppress(*ENDED):  # it may have said why before it ended
            self._line.send((kind, *words))
        while (heard := self._heard(self._next))[0] == "revoke":
            if kind == "read":
                self._let_go(heard[1])
            else:
                self._going = heard[1]
        answer, value, *state = heard
        memory = self._heard(partial(taken_over, self._line)) if answer == "found" and value else None
        if kind == "read":  # partitions come and go only there
            self.held, self.joined, self._highs = state
        if answer == "error":
            raise value
        if answer == "found":
            return {} if memory is None else put_together(value, memory)
        return value

    def _heard(self, hear: Callable[[], T]) -> T:
        try:
            return hear()
        except ENDED as err:
            raise self._anew(err) from None

    def _await_start(self) -> None:
        """StoreUnavailable where it takes long: nothing was asked yet, and it is left to go on until STARTS_S."""
        if not self._heard(partial(self._line.poll, HANGS_S)):
            if time.monotonic() - self._begun_s > STARTS_S:
                raise self._anew(TimeoutError())
            topic = self._settings[0].topic
            what = f"the process that reads topic '{topic}' takes longer than {HANGS_S:g} s to start"
            raise StoreUnavailable(what, hint="it is waited for; has the machine too much to do?")
        self._heard(self._line.recv)
        self._has_started = True

    def _next(self) -> Any:
        if not self._line.poll(HANGS_S):
            raise TimeoutError
        return self._line.recv()

    def _let_go(self, partitions: Sequence[int]) -> None:
        self._going = ()
        self._on_revoke(partitions)
        self.held -= set(partitions)
        with suppress(*ENDED):
            self._line.send(("let go",))

    def _anew(self, err: Exception) -> StoreUnavailable:
        """Start another: a new member of the group, for all that this one held goes to others some time."""
        code, limit_s = self._end(_GONE_S), HANGS_S if self._has_started else STARTS_S
        self._going, self.joined = sorted(self.held), False
        self._start()
        if isinstance(err, TimeoutError | BlockingIOError):  # nothing came, or not the rest
            how = f"did not answer for {limit_s:g} s"
        elif isinstance(err, GONE):
            how = f"ended with code {code}"
        else:  # this end has no memory, or no descriptor, for what is handed over
            how = f"could not be heard: {err}"
        what = f"the process that reads topic '{self._settings[0].topic}' {how}"
        return StoreUnavailable(
            what, hint="another one is started; if this goes on, see what it says on stderr"
        )


class _Answers:
    """The other end: answers, and reads ahead while there is no question."""

    def __init__(self, line: Connection) -> None:
        kafka, environ, group, source = line.recv()
        config = consumer_config(kafka, environ, group)
        self._line = line
        self._consumer = GroupConsumer(kafka, config, self._let_go)
        self._reader = TopicReader(self._consumer, readers(kafka, environ, source))
        self._source: Source | None = None
        self._later: deque[tuple[Any, ...]] = deque()

    def run(self) -> None:
        """Until the owner says `close`, or is gone."""
        try:
            while True:
                if self._later:
                    kind, *words = self._later.popleft()
                elif self._reader.wants_more and not self._line.poll(0):
                    self._reader.read_ahead()
                    continue
                else:
                    kind, *words = self._line.recv()
                if kind == "close":
                    return
                self._answer(kind, *words)
        finally:
            self._consumer.close()

    def _answer(self, kind: str, *words: Any) -> None:
        """Nothing is said to `report`; nor to `let go`, where the one that it was meant for has died."""
        if kind == "report":
            self._consumer.report(*words)
        if kind not in {"read", "watermarks"}:
            return
        memory = None
        try:
            if kind == "read":
                answer, (value, memory) = "found", self._found(*words)
            else:
                answer, value = "answer", self._consumer.watermarks(*words)
        except Exception as err:
            if not isinstance(err, FeatureflowError | Gone):
                traceback.print_exc()
            answer, value = "error", err
        self._tell(answer, value)
        if memory is not None:
            with memory:
                hand_over(memory, self._line)

    def _tell(self, answer: str, value: Any) -> None:
        """The answer, and how the consumer stands."""
        held = frozenset(self._consumer.held)
        highs = {each: high for each in held if (high := self._consumer.high(each)) is not None}
        self._line.send((answer, value, held, self._consumer.joined, highs))

    def _found(self, news: Source | None, *words: Any) -> tuple[Any, IO[bytes] | None]:
        self._source = news or self._source
        assert self._source is not None
        shares, tables = divided(self._reader.read(self._source, *words))
        return shares, filled(tables) if shares else None

    def _let_go(self, partitions: Sequence[int]) -> None:
        """Wait for the owner, who may have something else to say before; its next question waits."""
        self._line.send(("revoke", partitions))
        while True:
            kind, *words = self._line.recv()
            if kind in {"report", "watermarks"}:
                self._answer(kind, *words)
            elif kind == "let go":
                return
            else:
                self._later.append((kind, *words))
                if kind == "close":
                    return


def ends() -> tuple[Connection, Connection]:
    """Of a line: the owner's, where reading fails (BlockingIOError) if an answer breaks off, and the other."""
    ours, theirs = socketpair()
    ours.setsockopt(SOL_SOCKET, SO_RCVTIMEO, pack("ll", int(HANGS_S), 0))
    return Connection(ours.detach()), Connection(theirs.detach())


@contextmanager
def _unheard() -> Iterator[None]:
    """Have what is started meanwhile hear no signals that reach the whole group: its owner says when it ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main() -> None:
    """The process: its only argument is the number of its end of the line."""
    gc.set_threshold(COLLECT_AFTER, 50, 50)
    pa.set_cpu_count(1)  # the other cores are its owner's
    line = Connection(int(sys.argv[1]))
    with suppress(*GONE):
        line.send(("started",))
        try:
            answers = _Answers(line)
        except FeatureflowError as err:
            line.send(("error", err, frozenset(), False, {}))
        else:
            answers.run()
    os._exit(0)
