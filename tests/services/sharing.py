"""One service for all processes of a test run: the first starts it, it ends with the last, however that ends.

A supervisor process runs the service and listens on a Unix socket. Whoever uses the service keeps a connection
open; the kernel closes it when that process ends, by kill -9 too. After the last the supervisor stops the service.
"""

import fcntl
import json
import os
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.services.kafka import kafka_broker
from tests.services.processes import ServiceFailed, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
SECONDS = 90  # a start takes a few seconds; many at once on two cores take longer


@contextmanager
def shared_kafka(folder: Path) -> Iterator[str]:
    """The bootstrap address of the broker that all callers with this folder share, while the block runs."""
    place = folder / "kafka.socket"
    with (folder / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection, address = _ask(place) or _start_and_ask(place)
    with closing(connection):
        yield address


def _ask(place: Path) -> tuple[socket.socket, str] | None:
    """A lease and the address, once the service is ready; None where no supervisor listens (any more)."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(SECONDS)
    try:
        connection.connect(str(place))
        answer = connection.recv(65536)
    except (ConnectionError, FileNotFoundError):
        answer = b""
    if not answer:
        connection.close()
        return None
    told = json.loads(answer)
    if "error" in told:
        connection.close()
        raise ServiceFailed(told["error"])
    return connection, told["address"]


def _start_and_ask(place: Path) -> tuple[socket.socket, str]:
    place.unlink(missing_ok=True)
    log = place.with_suffix(".log")
    # Not a Popen: whoever starts it need not be there when it ends. Nor may it hold on to our output.
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "tests.services.sharing", str(place)],
        {**os.environ, "PYTHONPATH": str(CHECKOUT)},
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    wait_until(place.exists, f"the supervisor listens; its log is {log}", SECONDS)
    found = _ask(place)
    if found is None:
        msg = f"the supervisor ended:\n{log.read_text()}"
        raise ServiceFailed(msg)
    return found


def supervise(place: Path) -> None:
    """Run the service while anybody holds a lease."""
    server = socket.socket(socket.AF_UNIX)
    fresh = place.with_suffix(".fresh")
    fresh.unlink(missing_ok=True)
    server.bind(str(fresh))
    server.listen(128)
    fresh.rename(place)  # who sees it can connect
    with closing(server):
        try:
            with kafka_broker() as broker:
                _serve(server, json.dumps({"address": broker.bootstrap}).encode())
        except ServiceFailed as error:
            server.settimeout(SECONDS)
            with closing(server.accept()[0]) as connection:
                connection.sendall(json.dumps({"error": str(error)}).encode())
        finally:
            place.unlink(missing_ok=True)


def _serve(server: socket.socket, answer: bytes) -> None:
    """Answer everybody who connects; return when nobody is connected any more, or nobody comes at all."""
    leases: list[socket.socket] = []
    ready, _, _ = select.select([server], [], [], SECONDS)
    while ready:
        for one in ready:
            if one is server:
                lease, _ = server.accept()
                lease.sendall(answer)
                leases.append(lease)
            elif not _open(one):
                leases.remove(one)
                one.close()
        if not leases:
            return
        ready, _, _ = select.select([server, *leases], [], [])


def _open(lease: socket.socket) -> bool:
    try:
        return bool(lease.recv(1))
    except ConnectionError:
        return False


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
