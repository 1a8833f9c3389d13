"""`featureflow stream` as a process, catching up, in small batches; and the floor beside it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.streaming import measuring
from bench.streaming.measuring import Cost
from bench.streaming.table import Rate
from bench.streaming.workload import Bench, command, environ, project

SMALL_BATCH_S = 0.2
SAID = {False: "de-duplication off", True: "de-duplication on"}


def floor(bench: Bench) -> Rate:
    """Consume and decode only, from the first request to the last message."""
    words = [sys.executable, "-m", "bench.streaming.jobs.floor", str(project(bench, "floor"))]
    said = json.loads(_run(bench, words).out)
    name = f"floor: consume, decode ({said['decoder']}), one process"
    return Rate(name, said["events"], said["wall_s"], said["cpu_s"])


def start_up(bench: Bench, folder: Path, *words: str) -> Cost:
    """What a stream costs that finds nothing new to do."""
    return _run(bench, command(folder, "stream", "--once", "--json", *words))


def catching_up(
    bench: Bench, name: str, *words: str, dedupe: bool = False, job: str | None = None
) -> tuple[Rate, Rate]:
    """The whole topic by `stream --once`: (the whole process, without its start-up)."""
    folder = project(bench, "ours", dedupe=dedupe, job=job)
    whole = _run(bench, command(folder, "stream", "--once", "--json", *words))
    _must_have_read(whole, bench.events)
    idle = start_up(bench, folder, *words)
    return _rate(bench, f"{name}, the whole process", whole), _rate(bench, name, whole.minus(idle))


def small_batch(bench: Bench) -> int:
    """How many rows a batch has where one comes about every 200 ms; found by trying, for a larger one costs less."""
    rows = 10_000
    for _ in range(3):
        every_s = _capped(bench, rows)[2]["every_s"]
        if 0.9 * SMALL_BATCH_S <= every_s <= SMALL_BATCH_S:
            break
        rows = max(1_000, int(rows * min(8, 0.96 * SMALL_BATCH_S / every_s)))
    return rows


def in_small_batches(bench: Bench, rows: int) -> Rate:
    """Catching up with so many rows a batch, de-duplication off, without start-up."""
    whole, idle, said = _capped(bench, rows)
    every_ms, batch_ms = said["every_s"] * 1e3, said["batch_s"] * 1e3
    name = f"ours, {rows:,} rows every {every_ms:.0f} ms ({batch_ms:.0f} ms to the marker)"
    return _rate(bench, name, whole.minus(idle))


def _capped(bench: Bench, rows: int) -> tuple[Cost, Cost, dict[str, float]]:
    folder = project(bench, "small", dedupe=False)
    words = [sys.executable, "-m", "bench.streaming.jobs.capped", str(folder), str(rows)]
    whole = _run(bench, words)
    return whole, _run(bench, words), json.loads(whole.out)


def _must_have_read(cost: Cost, events: int) -> None:
    read = sum(source["read"] for source in json.loads(cost.out)["sources"])
    if read != events:
        sys.exit(f"the stream read {read} of {events} events")


def _rate(bench: Bench, name: str, cost: Cost) -> Rate:
    return Rate(name, bench.events, cost.wall_s, cost.cpu_s + cost.redis_s)


def _run(bench: Bench, words: Sequence[str]) -> Cost:
    pid = bench.redis.process.pid
    assert pid is not None
    return measuring.run(words, environ(), pid)
