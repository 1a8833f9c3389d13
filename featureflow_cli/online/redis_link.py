"""All connections of one store object: they are opened together and die together (design.md 4 [fate, first]).

A *generation* is what lies between two losses: who the servers are, and the connections to them. Whatever fails
in it (a reset, a timeout, MOVED, a new master) ends it as a whole; nothing is repeated, and the next call begins
a new one. Whoever writes must hear of that, even if somebody else met the failure: what it wrote before may be
gone. So a thread that has read markers or written in one generation gets StoreUnavailable when it comes to
write in the next. Servers, which never do, go on reading.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from redis.connection import Connection
from redis.exceptions import ResponseError

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.online import redis_functions as functions
from featureflow_cli.online.redis_connections import (
    ERRORS,
    Access,
    Endpoint,
    Lost,
    Refused,
    Reply,
    as_refusal,
    connect,
    explained,
    is_closed,
    require_master,
    start_of,
)
from featureflow_cli.online.redis_shards import Shards, find

_LOOKED_AFTER_S = 1.0


class Hears(Enum):
    """Whether a call is refused where a generation has ended since its thread first read a marker."""

    NOTHING = auto()
    IF_WRITTEN = auto()  # where anybody has written by this store object: a server looks at markers, too
    AT_ONCE = auto()
    AS_WRITER = auto()


@dataclass
class _Generation:
    """Connections that wait for work; the shards that were checked and have our functions; which run of each server
    the connections are to, and the births of those of which markers are known [emptied].
    """

    shards: Shards
    pid: int = field(default_factory=os.getpid)
    is_over: bool = False
    used_s: float = field(default_factory=time.monotonic)
    idle: list[deque[Connection]] = field(init=False)
    checked: set[int] = field(default_factory=set)
    loaded: set[int] = field(default_factory=set)
    starts: dict[int, str | None] = field(default_factory=dict)
    births: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.idle = [deque() for _ in self.shards.endpoints]

    @property
    def is_quiet(self) -> bool:
        """Whether nobody has used it for a while: then it is looked whether it still stands."""
        return time.monotonic() - self.used_s > _LOOKED_AFTER_S

    def is_cut(self) -> bool:
        """Whether a server has hung up while nobody looked."""
        for waiting in self.idle:
            for _ in range(len(waiting)):
                try:
                    connection = waiting.popleft()
                except IndexError:  # another thread took it
                    break
                if is_closed(connection):
                    connection.disconnect()
                    return True
                waiting.append(connection)
        return False

    def end(self) -> None:
        self.is_over = True
        for waiting in self.idle:
            while waiting:
                waiting.pop().disconnect()


class Talk:
    """One thread's use of a generation: a connection to each shard that it needs. Answers come in order."""

    def __init__(self, access: Access, generation: _Generation) -> None:
        self.shards = generation.shards
        self.births = generation.births
        self.where = str(access.url)
        self._access = access
        self._generation = generation
        self._taken: dict[int, Connection] = {}
        self._owed = 0

    def send(self, shard: int, frames: bytes, answers: int) -> None:
        """Commands as bytes, and how many they are; their answers are to be received."""
        self._owed += answers
        self._connection(shard).send_packed_command((frames,))

    def receive(self, shard: int, answers: int) -> Iterator[Reply]:
        read = self._connection(shard).read_response
        for _ in range(answers):
            try:
                reply = read()
            except ResponseError as err:
                refusal = as_refusal(err)
                self._owed -= isinstance(refusal, Refused)  # that is an answer, too
                raise refusal from None
            self._owed -= 1
            yield reply

    def ask(self, shard: int, *words: str | bytes | int) -> Reply:
        """The answer to one command."""
        self._owed += 1
        self._connection(shard).send_command(*words)
        (reply,) = self.receive(shard, 1)
        return reply

    def call(
        self, shard: int, function: str, keys: Iterable[str], *args: str | bytes | int, reads: bool = False
    ) -> Reply:
        """The answer of a function of our library."""
        if reads:
            self._load(shard)
        else:
            self.prepare(shard)
        names = tuple(keys)
        verb = "FCALL_RO" if reads else "FCALL"
        return self.ask(shard, verb, functions.full_name(function), len(names), *names, *args)

    def prepare(self, shard: int) -> None:
        """Before the first write to a shard: refuse a server that loses states, and load our functions."""
        if shard not in self._generation.checked:
            self.check(shard)
            self._generation.checked.add(shard)
        self._load(shard)

    def check(self, shard: int) -> None:
        """StoreUnavailable where the server is none for states."""
        functions.check(self._connection(shard), self.where)

    def _load(self, shard: int) -> None:
        if shard not in self._generation.loaded:
            functions.load(self._connection(shard))
            self._generation.loaded.add(shard)

    def _connection(self, shard: int) -> Connection:
        connection = self._taken.get(shard)
        if connection is None:
            endpoint = self.shards.endpoints[shard]
            self.where = _at(self._access, endpoint)
            waiting = self._generation.idle[shard]
            try:
                connection, is_new = waiting.pop(), False
            except IndexError:
                connection, is_new = connect(self._access, endpoint, self._access.url.db), True
            self._taken[shard] = connection
            if is_new:
                self._recognise(shard, connection)
            if self._generation.is_over:
                raise Lost
        return connection

    def _recognise(self, shard: int, connection: Connection) -> None:
        """Raises one of ERRORS where the server is no master, or is not as the others of the generation knew it."""
        if self._access.url.service is not None:
            require_master(connection)
        start = start_of(connection)
        if self._generation.starts.setdefault(shard, start) != start:
            raise Lost

    @property
    def is_owed(self) -> bool:
        """Whether answers are under way that nobody has received."""
        return self._owed > 0

    def give_back(self) -> None:
        generation = self._generation
        generation.used_s = time.monotonic()
        if self._owed or generation.is_over:
            self.close()
            return
        for shard, connection in self._taken.items():
            generation.idle[shard].append(connection)
        if generation.is_over:  # meanwhile
            generation.end()

    def close(self) -> None:
        for connection in self._taken.values():
            connection.disconnect()


def _at(access: Access, endpoint: Endpoint) -> str:
    return f"{'rediss' if access.url.is_tls else 'redis'}://{endpoint[0]}:{endpoint[1]}/{access.url.db}"


class Link:
    """A store object's way to its servers, for any number of threads."""

    def __init__(self, access: Access, is_cluster: bool) -> None:
        self.access = access
        self._is_cluster = is_cluster
        self._lock = threading.Lock()
        self._generation: _Generation | None = None
        self._known: tuple[Endpoint, ...] = ()
        self._local = threading.local()
        self._is_written = False

    @contextmanager
    def talk(self, hears: Hears = Hears.NOTHING) -> Iterator[Talk]:
        """Talk to the servers; what fails within ends the generation, and is StoreUnavailable."""
        try:
            generation = self._current()
            if hears is not Hears.NOTHING:
                self._hear(generation, hears)
        except StoreUnavailable:
            self._local.heard = None
            raise
        talk = Talk(self.access, generation)
        try:
            yield talk
        except BaseException as err:
            self._local.heard = None
            if isinstance(err, (Refused, StoreUnavailable)) and not talk.is_owed:  # nothing is lost by that
                talk.give_back()
            else:
                talk.close()
                self._end(generation)
            if isinstance(err, ERRORS):
                raise explained(err, talk.where) from err
            raise
        talk.give_back()

    def close(self) -> None:
        """Close all; a later call begins anew, and nobody has to hear of it."""
        with self._lock:
            generation, self._generation = self._generation, None
            self._local = threading.local()
        if generation is not None:
            generation.end()

    def _current(self) -> _Generation:
        generation = self._generation
        if generation is not None and generation.pid != os.getpid():
            self._generation = generation = None  # forked: the sockets are our parent's
        if generation is not None and generation.is_quiet and generation.is_cut():
            self._end(generation)
            generation = None
        if generation is not None:
            return generation
        shards = find(self.access, self._is_cluster, self._known)
        with self._lock:
            if self._generation is None:
                self._generation, self._known = _Generation(shards), shards.endpoints
            return self._generation

    def _hear(self, generation: _Generation, hears: Hears) -> None:
        """What a thread knows of markers is of the generation in which it read the first of them."""
        self._is_written = self._is_written or hears is Hears.AS_WRITER
        known = getattr(self._local, "heard", None)
        if known is None:
            self._local.heard = generation
        elif known is not generation and (self._is_written or hears is Hears.AT_ONCE):
            raise explained(Lost(), str(self.access.url))

    def _end(self, generation: _Generation) -> None:
        with self._lock:
            if self._generation is generation:
                self._generation = None
        generation.end()
