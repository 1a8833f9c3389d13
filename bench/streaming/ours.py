"""`featureflow stream` as a process: catching up, in small batches, with two workers; and the floor beside it."""

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


def floor(bench: Bench, times: int) -> Rate:
    """The best of some runs: consume and decode only, from the first request to the last message."""
    folder = project(bench, "floor")
    words = [sys.executable, "-m", "bench.streaming.jobs.floor", str(folder)]
    runs = [json.loads(_run(bench, words).out) for _ in range(times)]
    best = min(runs, key=lambda run: run["wall_s"])
    name = f"floor: consume, decode ({best['decoder']}), one process"
    return Rate(name, best["events"], best["wall_s"], best["cpu_s"])


def start_up(bench: Bench, folder: Path, *words: str) -> Cost:
    """What a stream costs that finds nothing new to do."""
    return _run(bench, command(folder, "stream", "--once", "--json", *words))


def catching_up(
    bench: Bench, times: int, name: str, *words: str, dedupe: bool = False, job: str | None = None
) -> tuple[Rate, Rate]:
    """The whole topic by `stream --once`, the best of some runs: (the whole process, without its start-up)."""

    def once() -> tuple[Cost, Cost]:
        folder = project(bench, "ours", dedupe=dedupe, job=job)
        whole = _run(bench, command(folder, "stream", "--once", "--json", *words))
        _must_have_read(whole, bench.events)
        return whole, start_up(bench, folder, *words)

    whole, idle = min((once() for _ in range(times)), key=lambda each: each[0].wall_s - each[1].wall_s)
    return _rate(bench, f"{name}, the whole process", whole), _rate(bench, name, whole.minus(idle))


def in_small_batches(bench: Bench, times: int) -> tuple[Rate, int]:
    """Catching up with as many rows a batch as take 200 ms from one batch to the next, de-duplication off.

    (its rate without start-up, rows a batch)
    """
    rows = 10_000

    def once() -> tuple[Cost, Cost, dict[str, float]]:
        folder = project(bench, "small", dedupe=False)
        words = [sys.executable, "-m", "bench.streaming.jobs.capped", str(folder), str(rows)]
        whole = _run(bench, words)
        return whole, _run(bench, words), json.loads(whole.out)

    for _ in range(3):  # a larger batch costs less an event: the size is found by trying
        every_s = once()[2]["every_s"]
        if 0.9 * SMALL_BATCH_S <= every_s <= SMALL_BATCH_S:
            break
        rows = max(1_000, int(rows * min(8, 0.96 * SMALL_BATCH_S / every_s)))
    whole, idle, said = min((once() for _ in range(times)), key=lambda each: each[0].wall_s)
    every_ms, batch_ms = said["every_s"] * 1e3, said["batch_s"] * 1e3
    name = f"ours, {rows:,} rows every {every_ms:.0f} ms ({batch_ms:.0f} ms to the marker)"
    return _rate(bench, name, whole.minus(idle)), rows


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
