"""Server processes: one socket, one process or several that share it, an orderly end on SIGTERM.

Several processes are workers of one parent, which holds the socket, passes SIGTERM on, and starts another
worker where one died.
"""

import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import uvicorn

from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.serve.app import application
from featureflow_cli.serve.limits import Limits

BACKLOG = 2_048
_DEATHS_IN_A_ROW = 5


def serve(
    project: Project, *, host: str, port: int, workers: int = 1, limits: Limits | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> None:  # fmt: skip
    """Serve until SIGTERM or SIGINT; port 0 takes a free one, `ready` is told the URL.

    UsageError where nothing is applied, StoreUnavailable where the address cannot be had.
    """
    limits = limits or Limits()
    _ = project.repo  # what is wrong with it is said before a port is taken
    with listening(host, port) as listener:
        if workers == 1:
            server = _Server(_config(project, limits))
            ready(_url(host, listener))
            server.run(sockets=[listener])
        else:
            _supervise(project, limits, listener, workers, lambda: ready(_url(host, listener)))


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: asyncio turns Nagle's delay off (40 ms an answer) only where it is.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as err:
        listener.close()
        message = f"cannot listen on {host}:{port}: {err.strerror or err}"
        raise StoreUnavailable(message, hint="choose another with --port (0: any that is free)") from err
    with listener:
        yield listener


class _Server(uvicorn.Server):
    """uvicorn, ending with exit code 0 on SIGTERM: it would raise the signal again once it is done."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _config(project: Project, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        application(project, limits),
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(limits.drain_seconds),
        h11_max_incomplete_event_size=65_536,
    )


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _work(
    root: Path, target: str | None, environ: Mapping[str, str], clock: Callable[[], int], limits: Limits,
    listener: socket.socket,
) -> None:  # fmt: skip
    """One worker process."""
    project = open_project(root, target, environ, clock)
    _Server(_config(project, limits)).run(sockets=[listener])


def _supervise(
    project: Project, limits: Limits, listener: socket.socket, workers: int, ready: Callable[[], None]
) -> None:
    # Workers count into files that any of them can sum up for /metrics; set before they import the client.
    with tempfile.TemporaryDirectory(prefix="featureflow-metrics-") as counts:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
        spawn = multiprocessing.get_context("spawn")
        stopping = threading.Event()

        def start() -> BaseProcess:
            words = (project.root, project.target, dict(project.environ), project.clock, limits, listener)
            worker = spawn.Process(target=_work, args=words)
            worker.start()
            return worker

        def stop(number: int, frame: FrameType | None) -> None:
            stopping.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        alive = [start() for _ in range(workers)]
        ready()
        deaths = 0
        try:
            while not stopping.wait(0.5):
                dead = [worker for worker in alive if not worker.is_alive()]
                deaths = deaths + len(dead) if dead else 0
                if deaths >= _DEATHS_IN_A_ROW:
                    message = f"workers die as soon as they start (exit code {dead[0].exitcode})"
                    raise FeatureflowError(message, hint="`featureflow serve` without --workers says why")
                alive = [worker if worker.is_alive() else start() for worker in alive]
        finally:
            for worker in alive:
                worker.terminate()
            for worker in alive:
                worker.join(limits.drain_seconds + 5)
            for number, handler in before.items():
                signal.signal(number, handler)
