"""Real Redis servers: one, a cluster of three, or a master with a replica and a sentinel."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.services.processes import LOOPBACK, Process, Service, ServiceFailed, free_port, wait_until

SLOTS = 16384
SENTINEL_NAME = "featureflow"


def program() -> str | None:
    """Where redis-server lies: FEATUREFLOW_REDIS_SERVER, else on the PATH; None where there is none."""
    return os.environ.get("FEATUREFLOW_REDIS_SERVER") or shutil.which("redis-server")


def missing() -> str | None:
    """What has to be installed, None where it is there."""
    return None if program() else "redis-server is not on the PATH: apt-get install redis-server"


class RedisServer(Service):
    """One redis-server on a loopback port; `stop`, `kill`, `freeze`, `thaw` and `restart` it as you like.

    `persistent` writes an append-only file and syncs every write, so that a restart loses nothing; without it
    a restart starts empty. With `user` there is only that ACL user (and nobody without a name); with `tls` only
    the encrypted port.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        persistent: bool = False,
        user: str | None = None,
        password: str = "secret",
        tls: bool = False,
        policy: str = "noeviction",
        config: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ):
        self.folder = folder
        self.port = port or free_port()
        self.certificate = _certificate(folder) if tls else None
        self._credentials = f"{user}:{password}@" if user else ""
        options = {
            "bind": LOOPBACK,
            "dir": str(folder),
            "save": "",
            "appendonly": "yes" if persistent else "no",
            "appendfsync": "always",
            "maxmemory-policy": policy,
            **self._port_options(),
            **(config or {}),
        }
        lines = [f'{name} "{value}"' for name, value in options.items()]
        if user:
            lines += [f"user {user} on >{password} ~* &* +@all", "user default off"]
        file = folder / "redis.conf"
        file.write_text("\n".join(lines) + "\n")
        self.process = Process([program() or "redis-server", file, *arguments], folder / "redis.log")

    def _port_options(self) -> dict[str, str]:
        if self.certificate is None:
            return {"port": str(self.port)}
        return {
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": str(self.certificate),
            "tls-key-file": str(self.certificate),
            "tls-ca-cert-file": str(self.certificate),
            "tls-auth-clients": "no",
        }

    @property
    def url(self) -> str:
        """What redis-py's from_url and our own configuration take, with user, password and certificate."""
        if self.certificate is None:
            return f"redis://{self._credentials}{LOOPBACK}:{self.port}/0"
        return f"rediss://{self._credentials}{LOOPBACK}:{self.port}/0?ssl_ca_certs={self.certificate}"

    def client(self) -> "redis.Redis":
        """A client of its own connections; close it (it is a context manager)."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        self.process.start(self.answers)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextmanager
def redis_server(
    *,
    port: int | None = None,
    persistent: bool = False,
    user: str | None = None,
    password: str = "secret",
    tls: bool = False,
    policy: str = "noeviction",
    config: Mapping[str, str] | None = None,
) -> Iterator[RedisServer]:
    """A standalone server of your own (about 30 ms); its options are RedisServer's."""
    with _folder() as folder:
        server = RedisServer(folder, port, persistent, user, password, tls, policy, config)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@dataclass(frozen=True)
class RedisCluster:
    """Three masters with a third of the slots each, in slot order; no replicas."""

    nodes: tuple[RedisServer, ...]

    @property
    def url(self) -> str:
        """The first node's; the client learns of the others from it."""
        return self.nodes[0].url

    def client(self) -> "redis.RedisCluster":
        return redis.RedisCluster.from_url(self.url)

    def flush(self) -> None:
        for node in self.nodes:
            with node.client() as client:
                client.flushall()

    def node_of(self, key: str) -> RedisServer:
        """The node that started with the key's slot."""
        with self.nodes[0].client() as client:
            slot = int(client.cluster("keyslot", key))
        return self.nodes[slot * len(self.nodes) // SLOTS]


@contextmanager
def redis_cluster(*, config: Mapping[str, str] | None = None) -> Iterator[RedisCluster]:
    """Three nodes that agree on the slots; a dead one is noticed within about two seconds."""
    with _folder() as folder, ExitStack() as stack:
        nodes = []
        for number in range(3):
            bus = free_port()
            options = {
                "cluster-enabled": "yes",
                "cluster-port": str(bus),
                "cluster-node-timeout": "2000",
                **(config or {}),
            }
            (folder / str(number)).mkdir()
            node = RedisServer(folder / str(number), config=options)
            node.start()
            stack.callback(node.kill)
            nodes.append((node, bus))
        clients = [stack.enter_context(node.client()) for node, _ in nodes]
        edges = [-(-SLOTS * number // len(nodes)) for number in range(len(nodes) + 1)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER ADDSLOTSRANGE", edges[number], edges[number + 1] - 1)
            for node, bus in nodes[:number]:
                client.execute_command("CLUSTER MEET", LOOPBACK, node.port, bus)
        wait_until(lambda: all(map(_whole, clients)), "the nodes of the Redis cluster know each other")
        yield RedisCluster(tuple(node for node, _ in nodes))


def _whole(client: "redis.Redis") -> bool:
    """Whether this node sees a healthy cluster, and every node with its slots."""
    state = client.execute_command("CLUSTER INFO")
    return state["cluster_state"] == "ok" and len(client.execute_command("CLUSTER SLOTS")) == 3


@dataclass(frozen=True)
class RedisSentinel:
    """A master, its replica, and one sentinel that promotes the replica when the master is gone half a second."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer
    name: str = SENTINEL_NAME

    def current(self) -> int:
        """The port of the master, as the sentinel has it now."""
        with self.sentinel.client() as client:
            found = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self.name)
            return int(found[1])


@contextmanager
def redis_sentinel() -> Iterator[RedisSentinel]:
    """A set-up that can fail over: kill `master`, wait until `current()` is the replica's port."""
    with _folder() as folder, ExitStack() as stack:
        places = [folder / name for name in ("master", "replica", "sentinel")]
        for place in places:
            place.mkdir()
        config = {"repl-diskless-sync-delay": "0"}
        master = RedisServer(places[0], config=config)
        replica = RedisServer(places[1], config={**config, "replicaof": f"{LOOPBACK} {master.port}"})
        sentinel = RedisServer(places[2], arguments=("--sentinel",))
        watch = [
            f"port {sentinel.port}",
            f"bind {LOOPBACK}",
            f"dir {places[2]}",
            f"sentinel monitor {SENTINEL_NAME} {LOOPBACK} {master.port} 1",
            f"sentinel down-after-milliseconds {SENTINEL_NAME} 500",
            f"sentinel failover-timeout {SENTINEL_NAME} 2000",
        ]
        (places[2] / "redis.conf").write_text("\n".join(watch) + "\n")
        for server in (master, replica, sentinel):
            server.start()
            stack.callback(server.kill)
        wait_until(lambda: _follows(replica), "the replica follows its master")
        wait_until(lambda: _knows_replica(sentinel), "the sentinel knows the replica")
        yield RedisSentinel(master, replica, sentinel)


def _follows(replica: RedisServer) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _knows_replica(sentinel: RedisServer) -> bool:
    with sentinel.client() as client:
        return len(client.execute_command("SENTINEL REPLICAS", SENTINEL_NAME)) == 1


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="featureflow-redis-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _certificate(folder: Path) -> Path:
    """A self-signed certificate for loopback with its key, in one file: its own authority."""
    file = folder / "tls.pem"
    made = subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            f"subjectAltName=IP:{LOOPBACK},DNS:localhost",
            "-keyout",
            file,
            "-out",
            folder / "certificate.pem",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        msg = f"openssl made no certificate:\n{made.stderr}"
        raise ServiceFailed(msg)
    with file.open("a") as both:
        both.write((folder / "certificate.pem").read_text())
    return file
