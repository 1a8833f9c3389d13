"""A stream that follows: how fresh what it writes is at a load, and how its memory grows over many events."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from confluent_kafka import Producer

from bench.streaming.measuring import Every, rss_of
from bench.streaming.table import Rate
from bench.streaming.workload import (
    Bench,
    command,
    environ,
    featureflow,
    generate_words,
    project,
    scrape,
)
from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.times import format_timestamp, system_clock
from tests.services.processes import free_port, wait_until

FIRST_PROBE = 10**9
"""Users that nobody else is: one for each probe."""
PROBE_S = 0.05
"""How often a probe is sent."""
SPAN_DAYS = 7
"""Event time of a million events, where memory is measured."""
DECIDED = ('outcome="accepted"', 'outcome="duplicate"', 'outcome="letter"')
FRESHNESS = 'featureflow_stream_freshness_seconds_bucket{le="'


@contextmanager
def following(folder: Path, *options: str) -> Iterator[tuple[int, int]]:
    """`featureflow stream` until the `with` ends: (its process id, the port of its metrics)."""
    port = free_port()
    with (folder / "stream.log").open("wb") as said:
        words = command(folder, "stream", "--metrics-port", str(port), *options)
        process = subprocess.Popen(words, stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=environ())

    def ready() -> bool:
        if process.poll() is not None:
            sys.exit((folder / "stream.log").read_text())
        try:
            return any(value >= 1 for name, value in scrape(port).items() if "taken_up" in name)
        except OSError:
            return False

    try:
        wait_until(ready, "the stream has taken up its topic", 60)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(60)


def catching_up(bench: Bench, workers: int) -> Rate:
    """Streams that follow, from the first events that the last of them has counted to the last of the topic.

    The batch that is under way when it is first seen is not counted, nor is its time: start-up is not part of it, nor
    how the group shares its partitions.
    """
    folder = project(bench, "several", dedupe=False)
    seen: list[tuple[float, list[int]]] = []
    with following(folder, "--workers", str(workers)) as (_, port):

        def all_read() -> bool:
            seen.append((time.perf_counter(), list(map(events_read, range(port, port + workers)))))
            time.sleep(0.04)
            return sum(seen[-1][1]) >= bench.events

        wait_until(all_read, "all is streamed", 600)
    started, first = next((at, sum(read)) for at, read in seen if all(read))
    name = f"ours following, {workers} worker{'s' if workers > 1 else ''}"
    return Rate(name, bench.events - first, seen[-1][0] - started)


def events_read(port: int) -> int:
    """How many events the worker has decided; none where it does not answer yet."""
    try:
        found = scrape(port)
    except OSError:
        return 0
    return int(sum(value for name, value in found.items() if any(each in name for each in DECIDED)))


@dataclass(frozen=True)
class Freshness:
    """Seconds from an event's own time to readable; `probes` were read back by a client, one by one."""

    rate: float
    p50_s: float
    p99_s: float
    probe_p50_s: float
    probe_p99_s: float
    probes: int
    behind_s: float


@contextmanager
def fed(
    bench: Bench, folder: Path, port: int, rate: float, seconds: float
) -> Iterator["subprocess.Popen[bytes]"]:
    """Events as they happen, at that rate and none of them late, from when the stream of that port has the first.

    The process prints by how much it was behind.
    """
    words = ("--events", "200000", "--users", str(bench.users), "--items", str(bench.items))
    out = ("--format", "ndjson", "--files", "1", "--late", "0", "--out", str(folder / "events"))
    featureflow(folder, "generate", *words, *out)
    (ndjson,) = (folder / "events").glob("*.ndjson")
    place = [bench.kafka.bootstrap, bench.topic, str(ndjson), str(rate), str(seconds)]
    feed = [sys.executable, "-m", "bench.streaming.jobs.feeder", *place]
    feeder = subprocess.Popen(feed, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environ())
    try:
        wait_until(lambda: events_read(port) > 0, "the first event is streamed", 60)
        yield feeder
    finally:
        feeder.terminate()
        feeder.wait()


def capacity(bench: Bench, seconds: float = 12) -> float:
    """Events a second that a stream takes in while more than those are sent, on the same cores."""
    sent = 200_000.0
    while (taken := _taken_in(bench, sent, seconds)) > 0.95 * sent:
        sent *= 1.25
    return taken


def _taken_in(bench: Bench, sent: float, seconds: float) -> float:
    bench = bench.with_empty_topic()
    folder = project(bench, "capacity")
    with following(folder) as (_, port), fed(bench, folder, port, sent, 3 * seconds):
        time.sleep(seconds / 3)
        started, before = time.perf_counter(), events_read(port)
        time.sleep(seconds)
        return (events_read(port) - before) / (time.perf_counter() - started)


def freshness(bench: Bench, rate: float, seconds: float) -> Freshness:
    """At that many events a second, none of them late; the first fifth of the time is not counted."""
    bench = bench.with_empty_topic()
    folder = project(bench, "fresh")
    with following(folder) as (_, port), fed(bench, folder, port, rate, seconds) as feeder:
        time.sleep(seconds / 5)
        before = _buckets(port)
        probes = _probed(bench, folder, feeder)
        after = _buckets(port)
        said, _ = feeder.communicate()
        if feeder.returncode:
            sys.exit("the feeder failed")
    counts = {bound: count - before.get(bound, 0) for bound, count in after.items()}
    p50, p99 = _quantile(counts, 0.5), _quantile(counts, 0.99)
    probed = np.percentile(probes, [50, 99])
    behind_s = json.loads(said)["behind_s"]
    return Freshness(rate, p50, p99, float(probed[0]), float(probed[1]), len(probes), behind_s)


def _probed(bench: Bench, folder: Path, feeder: "subprocess.Popen[bytes]") -> list[float]:
    """As long as the feeder runs: send events of new users, and read again and again those that were not there."""
    opened = open_project(folder, None, environ(), system_clock)
    field = _field(opened)
    producer = Producer({"bootstrap.servers": bench.kafka.bootstrap, "linger.ms": 0})
    found: list[float] = []
    awaited: dict[str, int] = {}
    sent, due = FIRST_PROBE, time.monotonic()
    while awaited or feeder.poll() is None:
        if time.monotonic() >= due and feeder.poll() is None:
            sent, due = sent + 1, due + PROBE_S
            awaited[str(sent)] = system_clock()
            producer.produce(bench.topic, _probe(sent, awaited[str(sent)]), str(sent).encode())
        producer.poll(0)
        ids = list(awaited)
        for id, held in zip(ids, opened.online.read("user", ids, [field]), strict=True):
            age_us = system_clock() - awaited[id]
            if held.blobs[0] is not None:
                found.append(age_us / 1e6)
                del awaited[id]
            elif age_us > 30_000_000:
                sys.exit(f"the event of user {id} cannot be read 30 s after it was sent")
        time.sleep(0.005)
    return found


def _probe(user: int, now_us: int) -> bytes:
    event = {
        "event_id": f"probe-{user}",
        "user_id": user,
        "event_type": "item_view",
        "item_id": 1,
        "session_id": "probe",
        "timestamp": format_timestamp(now_us),
        "metadata": {"category": "books"},
    }
    return json.dumps(event).encode()


def _field(opened: Project) -> str:
    return Kept(opened.repo.views["user_activity"], opened.builds()["user_activity"]).field


def _buckets(port: int) -> dict[float, float]:
    """Events at or below each bound of the histogram."""
    found = {}
    for name, value in scrape(port).items():
        if name.startswith(FRESHNESS):
            found[float(name[len(FRESHNESS) :].partition('"')[0])] = value
    return found


def _quantile(counts: dict[float, float], share: float) -> float:
    """Within its bucket by straight line, as Prometheus does."""
    bounds = sorted(counts)
    wanted, low, below = share * counts[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= wanted:
            inside = max(counts[bound] - below, 1e-9)
            return low if bound == float("inf") else low + (bound - low) * (wanted - below) / inside
        low, below = bound, counts[bound]
    return low


def memory(bench: Bench, events: int, *, forever: bool) -> list[tuple[int, float]]:
    """(events read, resident MB) of the worker every second, while that many are sent as fast as they go.

    Event time moves on by a week a million events. With `forever` the features are the shop's, and states grow: all
    sessions of a user count. Without, none looks back further than a week, and what leaves the window goes.
    """
    bench = bench.with_empty_topic()
    folder = project(bench, "memory", forever=forever)
    span = f"{max(1, events * SPAN_DAYS // 1_000_000)}d"
    samples: list[tuple[int, float]] = []
    with following(folder) as (pid, port):
        words = command(folder, *generate_words(bench, events, "--span", span))

        def look() -> None:
            samples.append((events_read(port), rss_of(pid)))

        with Every(1.0, look):
            done = subprocess.run(words, check=False, capture_output=True, text=True, env=environ())
            if done.returncode:
                sys.exit(done.stderr)
            said = json.loads(done.stdout)
            total = said["events"] + said["repeated"]
            wait_until(lambda: bool(samples) and samples[-1][0] >= total, "all is streamed", 900)
    return samples


def resident_at(samples: Sequence[tuple[int, float]], events: int) -> float:
    """Resident MB as that many events were read: the median of the ten seconds before."""
    until = next(at for at, (read, _) in enumerate(samples) if read >= events)
    return median(size for _, size in samples[max(0, until - 9) : until + 1])
