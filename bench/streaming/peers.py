"""Other engines on the same topic, each in an environment of its own; a peer that is not installed is skipped.

`make bench-peers` installs them into bench/.peers: quix (quixstreams), spark (pyspark) and jars (its Kafka connector).
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.streaming import measuring
from bench.streaming.table import Rate
from bench.streaming.workload import Bench, environ

JOBS = Path(__file__).with_name("jobs")
PEERS = Path(__file__).resolve().parents[1] / ".peers"


def has_quix(peers: Path) -> bool:
    return _is_there(peers / "quix/bin/python", "Quix Streams")


def has_spark(peers: Path) -> bool:
    return _is_there(peers / "spark/bin/python", "Spark") and _is_there(
        peers / "jars", "Spark's Kafka connector"
    )


def quix(bench: Bench, job: str, events: int, peers: Path) -> Rate:
    """Quix Streams on a count-and-sum job (totals, also served, or windows), so many events of the topic."""
    bench.flush_redis()
    place = [
        job,
        bench.kafka.bootstrap,
        bench.topic,
        str(events),
        str(_fresh(bench, "quix")),
        bench.redis.url,
    ]
    words = [str(peers / "quix/bin/python"), str(JOBS / "quix_job.py"), *place]
    return _rate(bench, f"Quix Streams, count and sum, {job}", words)


def spark(bench: Bench, job: str, peers: Path) -> Rate:
    """Spark Structured Streaming on a count-and-sum job, the whole topic in one batch, which suits it best."""
    place = [job, bench.kafka.bootstrap, bench.topic, str(_fresh(bench, "spark")), str(peers / "jars")]
    words = [str(peers / "spark/bin/python"), str(JOBS / "spark_job.py"), *place]
    return _rate(bench, f"Spark local[2], count and sum, {job}", words)


def per_event(bench: Bench, events: int) -> Rate:
    """The 18 features event by event, one Redis key each."""
    bench.flush_redis()
    place = [bench.kafka.bootstrap, bench.topic, str(events), bench.redis.url]
    words = [sys.executable, "-m", "bench.streaming.jobs.per_event", *place]
    return _rate(bench, "per event in Python, 18 keys with TTL", words)


def _rate(bench: Bench, name: str, words: Sequence[str]) -> Rate:
    pid = bench.redis.process.pid
    assert pid is not None
    cost = measuring.run(words, environ(), pid)
    said = json.loads(cost.out.splitlines()[-1])
    cpu_s = None if said.get("cpu_s") is None else said["cpu_s"] + cost.redis_s
    return Rate(name, said["events"], said["wall_s"], cpu_s)


def _fresh(bench: Bench, name: str) -> Path:
    folder = bench.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _is_there(path: Path, name: str) -> bool:
    if not path.exists():
        print(f"  {name} is skipped: {path} is not there (make bench-peers)", flush=True)
    return path.exists()
