"""Vectors a second from `featureflow serve`: one user and one item, 19 values evaluated at the moment of reading.

The floor is the same web server answering a constant body of the same size to the same client.

    python bench/serve.py --seconds 5
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from report import FEATUREFLOW, Figure, report, run, shop

CONNECTIONS = 8
CONSTANT = """
import os
import uvicorn

body = os.environb[b"BODY"]
headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error", access_log=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "shop"
        shop(project, asked.events)
        run(project, "stream", "--once")
        port = free_port()
        serve = [FEATUREFLOW, "-c", project, "serve", "--port", str(port)]
        with Server(serve, port, {}):
            vectors = [
                vector_request({"user_id": at % 997 + 1, "item_id": at % 499 + 1}) for at in range(5_000)
            ]
            body = answer(port, vectors[0])
            answered, seconds = load(port, vectors, asked.seconds)
            pairs = [{"user_id": at + 1, "item_id": at % 499 + 1} for at in range(100)]
            batch = request("/features/batch", {"service": "ranking_v1", "entities": pairs})
            batches, batch_seconds = load(port, [batch], asked.seconds)
        port = free_port()
        with Server([sys.executable, "-c", CONSTANT], port, {"BODY": body.decode(), "PORT": str(port)}):
            constant, floor_seconds = load(port, vectors, asked.seconds)
    report(
        "serve",
        [
            Figure(
                "a constant body from the same web server", constant, "answers", floor_seconds, floor=True
            ),
            Figure("POST /features/vector", answered, "vectors", seconds),
            Figure("POST /features/batch, 100 vectors a request", batches * 100, "vectors", batch_seconds),
        ],
    )


def request(path: str, body: object) -> bytes:
    text = json.dumps(body).encode()
    head = [
        f"POST {path} HTTP/1.1",
        "host: bench",
        "content-type: application/json",
        f"content-length: {len(text)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + text


def vector_request(entities: dict[str, int]) -> bytes:
    return request("/features/vector", {"service": "ranking_v1", "entities": entities})


def load(port: int, requests: list[bytes], seconds: float) -> tuple[int, float]:
    """(answers, seconds) of CONNECTIONS clients that each ask again as soon as they were answered."""
    counts = [0] * CONNECTIONS
    ends = time.perf_counter() + seconds

    def ask(client: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            at = client
            while time.perf_counter() < ends:
                exchange(connection, requests[at % len(requests)])
                counts[client] += 1
                at += CONNECTIONS

    clients = [threading.Thread(target=ask, args=(client,)) for client in range(CONNECTIONS)]
    started = time.perf_counter()
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    return sum(counts), time.perf_counter() - started


def exchange(connection: socket.socket, asked: bytes) -> bytes:
    """The body of a 200 answer to one request; anything else ends the benchmark."""
    connection.sendall(asked)
    received = b""
    while b"\r\n\r\n" not in received:
        received += receive(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        os.write(2, received + b"\n")
        os._exit(1)
    lines = head.lower().split(b"\r\n")
    length = int(next(line for line in lines if line.startswith(b"content-length:")).partition(b":")[2])
    while len(body) < length:
        body += receive(connection)
    return body


def receive(connection: socket.socket) -> bytes:
    received = connection.recv(1 << 16)
    if not received:
        message = "the server closed the connection"
        raise ConnectionError(message)
    return received


def answer(port: int, asked: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        return exchange(connection, asked)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server process for the length of a `with`, entered once it accepts connections."""

    def __init__(self, words: list[object], port: int, environ: dict[str, str]) -> None:
        self.words = [str(word) for word in words]
        self.port = port
        self.environ = environ

    def __enter__(self) -> None:
        self.process = subprocess.Popen(
            self.words,
            env={**os.environ, **self.environ},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"the server did not start: {' '.join(self.words)}")
                time.sleep(0.05)
            else:
                return

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)


if __name__ == "__main__":
    main()
