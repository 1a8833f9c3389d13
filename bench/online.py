"""Writing and reading 20,000 hashes of three states a call, as the stream does, and one for a single vector.

The floor writes the same hashes by redis-py's pipeline, unguarded. It needs a Redis of its own (`make services`); what
it writes there it removes again.

    python bench/online.py --url redis://localhost:6379/0 [--cluster]
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import redis
from report import Figure, report

from featureflow_cli.compute.packed import packed, strings
from featureflow_cli.evaluate.keeping import new_versions
from featureflow_cli.online.redis import RedisStore
from featureflow_cli.online.redis_connections import access_of
from featureflow_cli.online.store import Writes
from featureflow_cli.spec.models import OnlineStoreConfig
from featureflow_cli.times import DAY_US, system_clock

HASHES = 20_000
FIELDS = ("0123456789ab.1", "123456789abc.2", "23456789abcd.3")
BLOB_BYTES = 150
ROUNDS = 5


def best(work: Callable[[int], object]) -> tuple[float, float]:
    """The least seconds of several rounds: by the wall, and of this process's CPU."""
    walls, cpus = [], []
    for round_ in range(ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        work(round_)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


def batches() -> list[Writes]:
    """Round by round the same entities, each write over the version of the last."""
    ids = [str(10_000_000 + number) for number in range(HASHES)]
    now_us = system_clock()
    expected = np.zeros(HASHES, np.uint64)
    made = []
    for _ in range(ROUNDS):
        fresh = new_versions(HASHES)
        blobs = tuple(packed([os.urandom(BLOB_BYTES) for _ in ids]) for _ in FIELDS)
        newest_us = (np.full(HASHES, now_us),) * len(FIELDS)
        made.append(Writes(ids, expected, fresh, blobs, newest_us, np.full(HASHES, now_us + 30 * DAY_US)))
        expected = fresh
    return made


def floor(url: str, cluster: bool, writes: Writes) -> tuple[float, float]:
    client = redis.RedisCluster.from_url(url) if cluster else redis.Redis.from_url(url)
    names = [f"bench:floor:{id}" for id in writes.ids]
    versions = strings(writes.versions).to_pylist()
    rows = list(zip(names, versions, *(column.to_pylist() for column in writes.blobs), strict=True))

    def write(_: int) -> None:
        pipeline = client.pipeline(transaction=False) if not cluster else client.pipeline()
        for name, version, *blobs in rows:
            pipeline.hset(name, mapping={"v": version, **dict(zip(FIELDS, blobs, strict=True))})
        pipeline.execute()

    with client:
        found = best(write)
        for name in names:
            client.unlink(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="redis://localhost:6379/0")
    parser.add_argument("--cluster", action="store_true")
    args = parser.parse_args()
    settings = OnlineStoreConfig(type="redis", url=args.url, cluster=args.cluster)
    store = RedisStore(access_of(settings, Path()), "bench", is_cluster=args.cluster)
    store.teardown()
    rounds = batches()
    ids = rounds[0].ids
    written = best(lambda round_: store.write("user", FIELDS, rounds[round_]))
    read = best(lambda _: store.read("user", ids, FIELDS))
    single = best(lambda _: [store.read("user", [id], FIELDS) for id in ids[:1_000]])
    held = store.bytes_held() // HASHES
    store.teardown()
    store.close()
    plain = floor(args.url, args.cluster, rounds[0])
    rows = (("redis-py's pipeline, unguarded", plain), ("written, guarded", written), ("read", read))
    figures = [
        Figure(f"{name}{kind}", HASHES, "hashes", pair[place], floor=name.startswith("redis-py"))
        for place, kind in ((0, ""), (1, ", CPU of the client"))
        for name, pair in rows
    ]
    figures.append(Figure("read one by one", 1_000, "hashes", single[0]))
    report("online", figures)
    print(f"  {held} bytes a hash, by MEMORY USAGE")


if __name__ == "__main__":
    main()
