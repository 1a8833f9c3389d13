"""Processes that run one at a time: greenlets that stand still wherever they call something outside of themselves.

Production code is plain calls; the stand-ins that it calls (`pause`) hand control to whoever drives the process, who
lets others run, or strikes, before it goes on. A process has one greenlet for each thread of the real one.
"""

from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Any, Self

from greenlet import GreenletExit, getcurrent, greenlet


class How(Enum):
    """What becomes of the call at which a process stands."""

    WELL = "well"
    UNSENT = "never arrives"
    UNHEARD = "is done, but the answer is lost"
    LATE = "arrives later, when nobody waits for it any more"
    STALE = "goes by an outdated map of the shards"


class Process:
    """`at` says what it is about to do; `failure` is what ended it, if anything did."""

    def __init__(self, name: str, main: Callable[["Process"], None], chance: Random) -> None:
        self.name = name
        self.failure: Exception | None = None
        self._chance = chance
        self._killed = False
        self._main = _Thread(self, lambda: main(self), "start")
        self._threads = [self._main]
        self._next = self._main

    @property
    def at(self) -> str:
        return self._next.at

    @property
    def is_over(self) -> bool:
        return self._killed or self._main.is_over

    def step(self, how: How = How.WELL) -> None:
        """Let it go on, until it stands at its next call or is over."""
        self._next.go_on(how)
        self.failure = self._main.failure
        ready = [thread for thread in self._threads if not thread.is_over and thread.until()]
        self._next = self._chance.choice(ready) if len(ready) > 1 else (ready or [self._main])[0]

    def pause(self, at: str, until: Callable[[], bool] = lambda: True) -> How:
        """Called by the process itself: stand here. What it is told when it goes on, not before `until` holds."""
        thread = getcurrent()
        assert isinstance(thread, _Thread)
        assert thread.process is self
        if self._killed:
            raise GreenletExit
        return thread.stand(at, until)

    def begin(self, run: Callable[[], object], at: str, until: Callable[[], bool]) -> "_Thread":
        """A thread more."""
        self._threads = [
            *(thread for thread in self._threads if not thread.is_over),
            _Thread(self, run, at, until),
        ]
        return self._threads[-1]

    def kill(self) -> None:
        """Nothing that it does any more has an effect: not even what it does while it falls."""
        self._killed = True
        for thread in self._threads:
            thread.throw(GreenletExit)


class _Thread(greenlet):
    """`answer` or `failure` is what its function ended with."""

    def __init__(
        self, process: Process, run: Callable[[], object], at: str, until: Callable[[], bool] = lambda: True
    ) -> None:
        super().__init__(self._all)
        self.process = process
        self.at = at
        self.until = until
        self.is_over = False
        self.answer: Any = None
        self.failure: Exception | None = None
        self._function = run

    def go_on(self, how: How) -> None:
        self.parent = getcurrent()
        self.switch(how)

    def stand(self, at: str, until: Callable[[], bool]) -> How:
        self.at, self.until = at, until
        how: How = self.parent.switch()
        return how

    def _all(self, _: How) -> None:
        try:
            self.answer = self._function()
        except Exception as failure:
            self.failure = failure
        self.is_over = True


class Executor:
    """`concurrent.futures.ThreadPoolExecutor` of one thread, in the process that makes it."""

    def __init__(self, *_: object) -> None:
        thread = getcurrent()
        assert isinstance(thread, _Thread)
        self._process = thread.process
        self._last: Task | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is not None:
            self._last.exception()

    def submit(self, function: Callable[..., object], *args: object) -> "Task":
        before = self._last
        is_free = before.done if before is not None else lambda: True
        thread = self._process.begin(lambda: function(*args), "begin in the background", is_free)
        self._last = Task(self._process, thread)
        return self._last


class Task:
    """`concurrent.futures.Future`."""

    def __init__(self, process: Process, thread: _Thread) -> None:
        self._process = process
        self._thread = thread

    def done(self) -> bool:
        return self._thread.is_over

    def exception(self) -> Exception | None:
        if not self.done():
            self._process.pause("wait for the background", self.done)
        return self._thread.failure

    def result(self) -> Any:
        failure = self.exception()
        if failure is not None:
            raise failure
        return self._thread.answer
