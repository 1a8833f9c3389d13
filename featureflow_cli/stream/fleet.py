"""Several workers on one machine: processes that run the same command, as one consumer group.

Each is a whole stream of its own, as it would be on another machine; here they are only started, started again
when something kills them, and told to stop.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featureflow_cli.stream.run import Stop

PARENT = "FEATUREFLOW_STREAM_PARENT"
"""The environment variable that tells a worker whose it is: it stops when that process is gone."""
_RESTART_S = 1.0
_LOOK_S = 0.1
_SAID_S = 1.0
"""How long to wait for the last words of a worker that is gone: what it started may hold its stderr still."""


@dataclass(frozen=True)
class Ended:
    """How a fleet ended: the exit code of the first worker that failed (0: none), and what each reported."""

    exit_code: int
    reports: tuple[dict[str, Any], ...]


def run_fleet(
    command: Callable[[int], Sequence[str]],
    count: int,
    *,
    stop: Stop,
    say: Callable[[int, str], None],
    environ: Mapping[str, str],
) -> Ended:
    """Run `count` workers until all have ended; worker n's `command(n)` prints its report as JSON.

    `say` is handed the worker's number and each line of its stderr. A worker that is killed is started again; one
    that fails ends all of them; `stop` is passed on as SIGTERM.
    """
    workers = [_Process(number, command(number), say, environ) for number in range(count)]
    failed, is_stopping = 0, False
    while any(worker.is_running for worker in workers):
        stop.wait(_LOOK_S)
        for worker in workers:
            code = worker.ended()
            if code is None:
                continue
            if code < 0 and not stop.is_set() and not failed:
                say(worker.number, f"killed by signal {-code}; starting another")
                stop.wait(_RESTART_S * random.uniform(0.5, 1))  # noqa: S311  (not all at the same moment)
                worker.start()
            elif code > 0:
                failed = failed or code
        if (stop.is_set() or failed) and not is_stopping:
            is_stopping = True
            for worker in workers:
                worker.terminate()
    return Ended(failed, tuple(worker.report for worker in workers if worker.report is not None))


class _Process:
    """One worker's process, and the threads that read what it says."""

    def __init__(
        self, number: int, command: Sequence[str], say: Callable[[int, str], None], environ: Mapping[str, str]
    ) -> None:
        self.number = number
        self.report: dict[str, Any] | None = None
        self._command = list(command)
        self._say = say
        self._environ = {**environ, PARENT: str(os.getpid())}
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  (our own command line)
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environ
        )
        self._output = ""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._tell, self._keep)]
        for reader in self._readers:
            reader.start()
        self._is_noted = False

    @property
    def is_running(self) -> bool:
        return not self._is_noted

    def ended(self) -> int | None:
        """Its exit code, once; None while it runs, and when that was asked before."""
        code = self._process.poll()
        if code is None or self._is_noted:
            return None
        self._is_noted = True
        said, kept = self._readers
        said.join(_SAID_S)
        kept.join()
        if code == 0:
            self.report = json.loads(self._output)
        return code

    def terminate(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def _tell(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._say(self.number, line.rstrip("\n"))

    def _keep(self) -> None:
        assert self._process.stdout is not None
        self._output = self._process.stdout.read()


def is_of_fleet(environ: Mapping[str, str]) -> bool:
    return PARENT in environ


def is_orphan(environ: Mapping[str, str]) -> bool:
    """Whether this process is a worker of a fleet whose first process is gone."""
    parent = environ.get(PARENT)
    return parent is not None and int(parent) != os.getppid()


def this_command(arguments: Sequence[str]) -> list[str]:
    """The command line that runs featureflow with these arguments, and none of the project's own files for it."""
    return [sys.executable, "-P", "-m", "featureflow_cli", *arguments]
