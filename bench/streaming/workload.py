"""What is measured on: a topic of the shop's events, and projects that stream it into Redis and Delta on this disk."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.services.kafka import KafkaBroker, kafka_broker
from tests.services.redis import RedisServer, redis_server

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 8
LISTPACKS = {"hash-max-listpack-value": "1024"}
"""What `doctor` recommends: a hash of states stays one compact block."""
FILES = (
    'files: {path: "data/events/*.parquet"}      # or .ndjson, .csv: told by the ending, read in name order\n'
)
KAFKA = 'kafka: {{topic: {topic}, bootstrap_servers: "{bootstrap}"}}\n'
DEDUPE = "    event_id: event_id\n    dedupe_within: 1h\n"
STORE_YAML = """
version: 1
project: {name}
registry: data/registry.db
online_store: {{type: redis, url: "{redis}"}}
offline_store: {{type: delta, path: data/offline}}
stream: {{from: kafka, commit_interval: 5s, allowed_future: 1m}}
"""
JOB_YAML = """
entities:
  - {name: user, join_keys: {user_id: int64}}
sources:
  - name: user_events
    schema:
      user_id: int64 not null
      timestamp: timestamp
      total_amount: {type: "decimal(18,2)", from: metadata.total_amount}
    timestamp_field: timestamp
    stream:
      FILES
feature_views:
  - name: spending
    entity: user
    source: user_events
    features:
      - {name: "events_{window}", count: "*", windows: WINDOWS}
      - {name: "spent_{window}", sum: total_amount, windows: WINDOWS}
"""
JOBS = {"totals": "[forever]", "windows": "[1h, 24h]"}
"""The count-and-sum jobs, that every engine can do: how many events of a user, and the sum of their amounts; of all
time, or of an hour and of a day. Ours slide; Quix Streams does the same, and tumbling ones, which cost less; Spark
tumbling ones only, for its sliding windows are a copy of each event for every step."""
QUIX = {"totals": {"served": 1.0, "totals": 1.0}, "windows": {"tumbling": 1.0, "sliding": 0.2}}
"""What it does of each, and of how many of the events: it slides slowly. Served are totals that can be read in Redis,
exactly once, as ours are; the others are in nobody's reach but its own, at least once."""


@dataclass(frozen=True)
class Bench:
    """The services of a run. `topic` holds `events` messages, second deliveries included."""

    kafka: KafkaBroker
    redis: RedisServer
    folder: Path
    users: int
    items: int
    topic: str = ""
    events: int = 0

    def flush_redis(self) -> None:
        with self.redis.client() as client:
            client.flushall()

    def with_topic(self, events: int, *words: str) -> "Bench":
        """A topic of its own with that many distinct events, as `featureflow generate` sends them."""
        bench = replace(self, topic=self.kafka.topic(PARTITIONS))
        done = generate(bench, project(bench, "generator"), events, *words)
        return replace(bench, events=int(done["events"]) + int(done["repeated"]))

    def with_empty_topic(self) -> "Bench":
        return replace(self, topic=self.kafka.topic(PARTITIONS), events=0)


@contextmanager
def services(users: int, items: int) -> Iterator[Bench]:
    """A broker and a Redis of our own, the latter without persistence."""
    with (
        tempfile.TemporaryDirectory(prefix="featureflow-bench-") as folder,
        kafka_broker(heap_mb=1024, quick=False) as kafka,
        redis_server(config=LISTPACKS) as redis,
    ):
        yield Bench(kafka, redis, Path(folder), users, items)


def project(
    bench: Bench, name: str, *, dedupe: bool = True, forever: bool = True, job: str | None = None
) -> Path:
    """A new project of that name over the topic, applied; Redis is empty. `job`: one of JOBS, not the shop's 18.

    Without `forever` the three features of all time are of a week.
    """
    folder = bench.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "features").mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(STORE_YAML.format(name=name, redis=bench.redis.url))
    topic = KAFKA.format(topic=bench.topic, bootstrap=bench.kafka.bootstrap)
    if job is not None:
        text = JOB_YAML.replace("FILES\n", topic).replace("WINDOWS", JOBS[job])
        (folder / "features" / "job.yaml").write_text(text)
    else:
        shutil.copytree(ROOT / "example_repo" / "features", folder / "features", dirs_exist_ok=True)
        if not forever:
            for path in (folder / "features").glob("*.yaml"):
                path.write_text(path.read_text().replace("window: forever", "window: 7d"))
        path = folder / "features" / "shop.yaml"
        text = path.read_text()
        assert FILES in text and DEDUPE in text
        path.write_text(text.replace(FILES, topic).replace("" if dedupe else DEDUPE, ""))
    bench.flush_redis()
    featureflow(folder, "apply", "--yes")
    return folder


def command(folder: Path, *words: str) -> list[str]:
    """The command line of featureflow as it stands in this checkout."""
    return [sys.executable, "-m", "featureflow_cli", "--chdir", str(folder), *words]


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def featureflow(folder: Path, *words: str) -> str:
    """The command's stdout; it must succeed."""
    done = subprocess.run(command(folder, *words), capture_output=True, text=True, check=False, env=environ())
    if done.returncode:
        sys.exit(f"featureflow {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def generate_words(bench: Bench, events: int, *words: str) -> list[str]:
    scale = ("--events", str(events), "--users", str(bench.users), "--items", str(bench.items))
    return ["generate", "--to", "kafka", "--json", *scale, *words]


def generate(bench: Bench, folder: Path, events: int, *words: str) -> dict[str, Any]:
    done: dict[str, Any] = json.loads(featureflow(folder, *generate_words(bench, events, *words)))
    return done


def scrape(port: int) -> dict[str, float]:
    """The worker's metrics by their name and labels, as /metrics has them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}
