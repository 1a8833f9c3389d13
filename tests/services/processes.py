"""One process of a service: it dies with whoever started it, even by kill -9, and is stopped by its id."""

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class ServiceFailed(Exception):
    """A service did not start, or did not get to where it was waited for."""


class Process:
    """A command that can be started again after it was stopped or killed; its output goes to a log file."""

    def __init__(self, command: Sequence[str | Path], log: Path, environ: Mapping[str, str] | None = None):
        self.command = [str(word) for word in command]
        self.log = log
        self.environ = {**os.environ, **(environ or {})}
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None where it does not run."""
        if self._running is None or self._running.poll() is not None:
            return None
        return self._running.pid

    def start(self, ready: Callable[[], object], seconds: float = 60) -> None:
        """Start it and wait for `ready`; raises ServiceFailed with the end of the log."""
        assert self.pid is None, "it runs already"
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environ,
                preexec_fn=_die_with_the_parent,  # noqa: PLW1509 (it makes one system call)
            )

        def answered_or_ended() -> object:
            return self.pid is None or ready()

        try:
            wait_until(answered_or_ended, f"{self.command[0]} answers", seconds)
        except BaseException:
            self.kill()
            raise
        if self.pid is None:
            code = self._running.returncode
            msg = f"{self.command[0]} ended with code {code}:\n{self.end_of_log()}"
            raise ServiceFailed(msg)

    def stop(self, seconds: float = 30) -> None:
        """SIGTERM, as an operator would; SIGKILL where it takes longer."""
        self._end(signal.SIGTERM, seconds)

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, no client is told."""
        self._end(signal.SIGKILL, 30)

    def freeze(self) -> None:
        """It keeps its connections but does not answer, as on a hung machine."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def end_of_log(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: int) -> None:
        assert self._running is not None and self.pid is not None, "it does not run"
        self._running.send_signal(number)

    def _end(self, number: int, seconds: float) -> None:
        if self._running is None:
            return
        if self._running.poll() is None:
            self._running.send_signal(number)
            try:
                self._running.wait(seconds)
            except subprocess.TimeoutExpired:
                self._running.kill()
        self._running.wait()


class Service:
    """What is done to a server as a whole: by its `process`, and by how it is started."""

    process: Process

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def restart(self) -> None:
        """Stop and start: what it keeps on disk is there afterwards."""
        self.stop()
        self.start()


def _die_with_the_parent() -> None:
    """In the child, before the command: the kernel kills it when the thread that started it ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Ask until it holds; raises ServiceFailed at the deadline, naming what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            msg = f"waited {seconds:g} s in vain: {what}"
            raise ServiceFailed(msg)
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as sock:
        return sock.connect_ex((LOOPBACK, port)) == 0


def free_port() -> int:
    """A port that nobody uses, below those that the kernel gives to outgoing connections."""
    for _ in range(1000):
        port = random.randrange(20_000, 32_000)
        if is_free(port):
            return port
    msg = "no free port between 20000 and 32000"
    raise ServiceFailed(msg)


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
