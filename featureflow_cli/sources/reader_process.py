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
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Any

import pyarrow as pa

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.kafka import CLOSE_S, consumer_config
from featureflow_cli.sources.kafka_consumer import GroupConsumer
from featureflow_cli.sources.registered_messages import readers
from featureflow_cli.sources.shared_rows import divided, hand_over, put_together, taken_over
from featureflow_cli.sources.topic_reader import TopicReader
from featureflow_cli.spec.models import KafkaStream

ENDED = (EOFError, OSError)
"""What is raised where there is nobody at the other end."""
_PROGRAM = f"from {__name__} import main; main()"
_GONE_S = 1.0
"""How long a process may take to be gone that has closed its end."""
_COLLECT_AFTER = 100_000


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
        ours, theirs = socketpair()
        with theirs, _unheard():
            # It finds the package that this one is of, and nothing else in the folder that it runs in.
            package = str(Path(__file__).parents[2])
            found = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
            self._process = subprocess.Popen(  # noqa: S603  (our own command line)
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": found},
            )
        self._line = Connection(ours.detach())
        self._source = None
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
        try:
            with suppress(*ENDED):  # it may have said why before it ended
                self._line.send((kind, *words))
            while True:
                answer, *told = self._line.recv()
                if answer != "revoke":
                    break
                if kind == "read":
                    self._let_go(*told)
                else:
                    (self._going,) = told
            value, *state = told
            if kind == "read":  # partitions come and go only there
                self.held, self.joined, self._highs = state
            if answer == "found":
                value = put_together(value, taken_over(self._line)) if value else {}
        except ENDED:
            raise self._died() from None
        if answer == "error":
            raise value
        return value

    def _let_go(self, partitions: Sequence[int]) -> None:
        self._going = ()
        self._on_revoke(partitions)
        self.held -= set(partitions)
        with suppress(*ENDED):
            self._line.send(("let go",))

    def _died(self) -> StoreUnavailable:
        """Start another: a new member of the group, for all that this one held goes to others some time."""
        code = self._end(_GONE_S)
        self._going, self.joined = sorted(self.held), False
        self._start()
        what = f"the process that reads topic '{self._settings[0].topic}' ended with code {code}"
        return StoreUnavailable(what, hint="it is started again; if this goes on, see what it says on stderr")


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
        if kind == "report":
            self._consumer.report(*words)
        if kind not in {
            "read",
            "watermarks",
        }:  # such as `let go`, where the one to which it was to be said has died
            return
        value: Any
        tables: Sequence[Any] = ()
        try:
            if kind == "read":
                answer, (value, tables) = "found", divided(self._read(*words))
            else:
                answer, value = "answer", self._consumer.watermarks(*words)
        except Exception as err:
            answer, value = "error", err
        self._tell(answer, value)
        if tables:
            hand_over(tables, self._line)

    def _tell(self, answer: str, value: Any) -> None:
        """The answer, and how the consumer stands."""
        held = frozenset(self._consumer.held)
        highs = {each: high for each in held if (high := self._consumer.high(each)) is not None}
        self._line.send((answer, value, held, self._consumer.joined, highs))

    def _read(self, news: Source | None, *words: Any) -> dict[int, list[RawBatch]]:
        self._source = news or self._source
        assert self._source is not None
        return self._reader.read(self._source, *words)

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
    gc.set_threshold(_COLLECT_AFTER, 50, 50)
    pa.set_cpu_count(1)  # the other cores are its owner's
    line = Connection(int(sys.argv[1]))
    with suppress(*ENDED):
        try:
            answers = _Answers(line)
        except FeatureflowError as err:
            line.send(("error", err, frozenset(), False, {}))
        else:
            answers.run()
    os._exit(0)
