"""Stands between Kafka's clients and a broker, and breaks the connection of one whose question it was told of."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.services.kafka import KafkaBroker, kafka_broker
from tests.services.processes import LOOPBACK, free_port

METADATA = 3
"""What brokers and topics there are, in Kafka's protocol."""


class Relay:
    """`cut_next` is what the next question of a kind is about whose connection breaks; `cuts` counts them."""

    def __init__(self, listener: socket.socket, to: int) -> None:
        self.cut_next: tuple[int, bytes] | None = None
        self.cuts = 0
        self._listener = listener
        self._to = to
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # until the listener is closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection((LOOPBACK, self._to)) as broker:
            threading.Thread(target=_answers, args=(broker, client), daemon=True).start()
            questions = client.makefile("rb")
            while size := questions.read(4):
                question = questions.read(int.from_bytes(size))
                if self.cut_next is not None and _is(question, *self.cut_next):
                    self.cut_next, self.cuts = None, self.cuts + 1
                    break
                broker.sendall(size + question)
            _end(client, broker)


def _is(question: bytes, kind: int, about: bytes) -> bool:
    return int.from_bytes(question[:2]) == kind and about in question


def _answers(broker: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while answer := broker.recv(65_536):
            client.sendall(answer)
        _end(client, broker)


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def relayed_broker() -> Iterator[tuple[KafkaBroker, Relay]]:
    """A broker of your own that clients reach through the relay only."""
    port = free_port()
    with socket.create_server((LOOPBACK, 0)) as listener:
        advertised = f"PLAINTEXT://{LOOPBACK}:{listener.getsockname()[1]}"
        relay = Relay(listener, port)
        with kafka_broker(port=port, config={"advertised.listeners": advertised}) as broker:
            yield broker, relay
