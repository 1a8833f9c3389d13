"""Real services for a person: `python -m tests.services all` runs until Ctrl-C; `install` fetches what they need.

    python -m tests.services install                  Kafka and a Schema Registry by mvn, redis-server by apt-get
    python -m tests.services kafka redis              on free ports; also redis-cluster, redis-sentinel, all
    python -m tests.services all --usual-ports        Kafka on 9092 and Redis on 6379, where those are free

What they hold is gone afterwards.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tests.services import apicurio, jars, kafka, redis
from tests.services.processes import ServiceFailed, is_free

USUAL_PORTS = {"kafka": 9092, "redis": 6379}
# What an online store of many hashes wants: listpacks up to 1,024 bytes instead of hash tables.
REDIS_CONFIG = {"hash-max-listpack-value": "1024"}


@contextmanager
def run_kafka(port: int | None) -> Iterator[list[str]]:
    with kafka.kafka_broker(port=port, heap_mb=512, quick=False) as broker:
        yield [f"KAFKA_BROKERS={broker.bootstrap}"]


@contextmanager
def run_redis(port: int | None) -> Iterator[list[str]]:
    with redis.redis_server(port=port, config=REDIS_CONFIG) as server:
        yield [f"REDIS_URL={server.url}"]


@contextmanager
def run_cluster(port: int | None) -> Iterator[list[str]]:
    with redis.redis_cluster(config=REDIS_CONFIG) as cluster:
        yield [f"REDIS_CLUSTER_URL={cluster.url}"]


@contextmanager
def run_sentinel(port: int | None) -> Iterator[list[str]]:
    with redis.redis_sentinel() as trio:
        yield [f"REDIS_SENTINEL=127.0.0.1:{trio.sentinel.port}", f"REDIS_SENTINEL_MASTER={trio.name}"]


RUNNERS = {
    "kafka": run_kafka,
    "redis": run_redis,
    "redis-cluster": run_cluster,
    "redis-sentinel": run_sentinel,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.services",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="+", choices=["install", "all", *RUNNERS])
    parser.add_argument("--usual-ports", action="store_true", help="9092 and 6379 where they are free")
    arguments = parser.parse_args()
    try:
        if "install" in arguments.what:
            install()
            return 0
        return serve([*RUNNERS] if "all" in arguments.what else arguments.what, arguments.usual_ports)
    except ServiceFailed as error:
        print(error, file=sys.stderr)
        return 1


def install() -> None:
    """Whatever is missing; apt-get needs root, or a sudo that does not ask."""
    if redis.missing():
        apt_get("redis-server")
    if shutil.which("java") is None or (
        (kafka.missing() or apicurio.missing()) and shutil.which("mvn") is None
    ):
        apt_get("default-jre-headless", "maven")
    print(f"redis-server: {redis.program()}")
    print(f"Kafka {jars.version()}: {kafka.install()}")
    print(f"Apicurio Registry {apicurio.VERSION}: {apicurio.install()}")


def apt_get(*packages: str) -> None:
    sudo = [] if os.geteuid() == 0 or shutil.which("sudo") is None else ["sudo", "-n"]
    # In runlevel 1 Debian's packages start no daemon: whoever wants a server starts it. (systemd asks no runlevel.)
    quietly = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        print("apt-get", *words, flush=True)
        done = subprocess.run([*quietly, *words], stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            msg = f"apt-get could not do it; install {' '.join(packages)} by hand"
            raise ServiceFailed(msg)


def serve(names: Sequence[str], usual_ports: bool) -> int:
    """Run them until Ctrl-C or SIGTERM."""
    for name in names:
        reason = kafka.missing() if name == "kafka" else redis.missing()
        if reason is not None:
            raise ServiceFailed(reason)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            lines = []
            for name in dict.fromkeys(names):
                usual = USUAL_PORTS.get(name, 0) if usual_ports else 0
                port = usual if usual and is_free(usual) else None
                lines += stack.enter_context(RUNNERS[name](port))
            print(*(f"export {line}" for line in lines), sep="\n")
            print("Ctrl-C stops it; what it holds is gone then.", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
