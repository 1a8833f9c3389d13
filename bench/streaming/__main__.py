"""Kafka to Redis and Delta, side by side in one run: `python -m bench.streaming` from the root of the checkout.

The floor consumes the same topic with the same consumer settings, decodes the JSON, and does no more. `--only`
names parts: rates, peers, freshness, memory, states. CPU is that of the worker and of Redis.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from bench.streaming import live, ours, peers, states
from bench.streaming.table import Fact, Rate, at_least, at_most, show
from bench.streaming.workload import JOBS, PARTITIONS, Bench, services

PARTS = ("rates", "peers", "freshness", "memory", "states")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.streaming", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="distinct events in the topic")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--times", type=int, default=2, help="the best of so many runs")
    parser.add_argument("--slow-events", type=int, default=200_000, help="for those who go event by event")
    parser.add_argument("--memory-events", type=int, default=10_000_000)
    parser.add_argument("--live-seconds", type=float, default=30)
    parser.add_argument(
        "--live-rate", type=float, help="events a second; half of the small batches' by default"
    )
    parser.add_argument("--peers", type=Path, default=peers.PEERS, help="where make bench-peers put them")
    parser.add_argument("--only", choices=PARTS, action="append")
    asked = parser.parse_args()
    rates: list[Rate] = []
    facts: list[Fact] = []
    try:
        with services(asked.users, asked.items) as empty:
            measured(empty, asked, asked.only or PARTS, rates, facts)
    finally:  # also what a run has found that was cut short
        if rates:
            title = (
                f"{rates[0].events:,} messages of the shop in {PARTITIONS} partitions, {asked.users:,} users,"
            )
            show(f"kafka_stream: {title} {asked.items:,} items; 18 features in 4 views", rates, facts)


def measured(
    empty: Bench, asked: argparse.Namespace, parts: Sequence[str], rates: list[Rate], facts: list[Fact]
) -> None:
    """Adds what each part finds."""
    told("a topic is made")
    bench = empty.with_topic(asked.events)
    if "memory" in parts:  # those first that a busy machine does not spoil
        facts += held(empty, asked.memory_events)
    if "states" in parts:
        facts += stored(bench)
    told("floor")
    floor = ours.floor(bench, asked.times)
    rates.append(floor)
    live_rate = asked.live_rate
    if "rates" in parts:
        small = rated(bench, asked.times, floor, rates, facts)
        live_rate = live_rate or small.a_second / 2
    if "freshness" in parts:
        facts += fresh(empty, live_rate or 20_000, asked.live_seconds)
    if "peers" in parts:
        against_peers(bench, asked, rates, facts)


def told(what: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')} {what}", flush=True)


def rated(bench: Bench, times: int, floor: Rate, rates: list[Rate], facts: list[Fact]) -> Rate:
    """Ours, in all its ways; the rate in small batches."""
    told("catching up")
    whole, off = ours.catching_up(bench, times, "ours catching up")
    told("with de-duplication")
    _, on = ours.catching_up(bench, times, "ours, de-duplication on", dedupe=True)
    told("two workers")
    one, two = (
        max((live.catching_up(bench, workers) for _ in range(times)), key=lambda rate: rate.a_second)
        for workers in (1, 2)
    )
    told("small batches")
    small, _ = ours.in_small_batches(bench, times)
    rates += [off, whole, on, small, one, two]
    assert off.cpu_s is not None and floor.cpu_s is not None
    facts += [
        at_least("catching up / floor", off.a_second / floor.a_second, 0.25),
        at_least("at 200 ms / floor", small.a_second / floor.a_second, 0.20),
        at_most("CPU of worker and Redis / floor", off.cpu_s / floor.cpu_s, 5.5),
        at_most("time with de-duplication / without", on.wall_s / off.wall_s, 1.05),
        at_least("two workers / one", two.a_second / one.a_second, 1.0),
    ]
    return small


def against_peers(bench: Bench, asked: argparse.Namespace, rates: list[Rate], facts: list[Fact]) -> None:
    told("per event in Python")
    slow = peers.per_event(bench, asked.slow_events)
    rates.append(slow)
    features = next((rate for rate in rates if rate.name == "ours catching up"), None)
    if features is not None:
        facts.append(at_least("18 features / per event in Python", features.a_second / slow.a_second, 5))
    for job in JOBS:
        told(f"count and sum, {job}")
        _, mine = ours.catching_up(bench, asked.times, f"ours, count and sum, {job}", job=job)
        quix = peers.quix(bench, job, asked.slow_events, asked.peers)
        spark = peers.spark(bench, job, asked.peers)
        rates += [rate for rate in (mine, quix, spark) if rate is not None]
        if quix is not None:
            facts.append(at_least(f"{job} / Quix Streams", mine.a_second / quix.a_second, 15))
        if spark is not None:
            facts.append(at_least(f"{job} / Spark", mine.a_second / spark.a_second, 1.5))


def fresh(empty: Bench, rate: float, seconds: float) -> list[Fact]:
    told(f"freshness at {rate:,.0f} events/s")
    found = live.freshness(empty, rate, seconds)
    return [
        Fact(
            f"freshness at {rate:,.0f} events/s, p50, p99 (its metrics)",
            f"{found.p50_s * 1e3:.0f}, {found.p99_s * 1e3:.0f} ms",
            "p99 under 500 ms",
            found.p99_s < 0.5,
        ),
        Fact(
            f"the same by {found.probes:,} events read back",
            f"{found.probe_p50_s * 1e3:.0f}, {found.probe_p99_s * 1e3:.0f} ms",
            "p99 under 500 ms",
            found.probe_p99_s < 0.5,
        ),
        Fact("the producer was behind its rate by at most", f"{found.behind_s * 1e3:.0f} ms"),
    ]


def held(empty: Bench, events: int) -> list[Fact]:
    """Resident memory as a tenth, three tenths, half and all were read; flat: the last at most a tenth above 3/10."""
    facts = []
    for what, forever in (("states as large as a week", False), ("states that grow", True)):
        told(f"memory over {events:,} events, {what}")
        samples = live.memory(empty, events, forever=forever)
        marks = [tenths * events // 10 for tenths in (1, 3, 5, 10)]
        sizes = [live.resident_at(samples, mark) for mark in marks]
        at = ", ".join(f"{mark / 1e6:g}" for mark in marks)
        shown = ", ".join(f"{size:,.0f}" for size in sizes)
        ratio = sizes[3] / sizes[1]
        facts += [
            Fact(f"RSS at {at} million events, {what}", f"{shown} MB"),
            at_most("... the last / the second", ratio, 1.1),
            Fact("... the largest", f"{max(size for _, size in samples):,.0f} MB"),
        ]
    return facts


def stored(bench: Bench) -> list[Fact]:
    told("bytes in Redis")
    found = states.bytes_per_entity(bench)
    name = f"Redis bytes an entity ({found.entities:,}): ours, by default"
    return [
        Fact(name, f"{found.compact:,.0f}, {found.default:,.0f}"),
        Fact("one key per feature with a TTL", f"{found.keys:,.0f}"),
        at_most("ours / one key per feature", found.compact / found.keys, 0.5),
        at_most("ours by default / one key per feature", found.default / found.keys, 0.5),
    ]


if __name__ == "__main__":
    main()
