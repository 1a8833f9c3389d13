"""Kafka to Redis and Delta, side by side in one run: `python -m bench.streaming` from the root of the checkout.

The floor consumes the same topic with the same consumer settings, decodes the JSON, and does no more. A machine
drifts: so all are run in turn, in rounds, the floor before and after each; a ratio is that of a round (to the floor
beside it, or to another run just before), and of the rounds' ratios the median counts. `--only` names parts: rates,
peers, freshness, memory, states. CPU is that of the worker and of Redis.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.streaming import live, ours, peers, states
from bench.streaming.table import Fact, Rate, at_least, at_most, show, spread
from bench.streaming.workload import JOBS, PARTITIONS, QUIX, Bench, services

PARTS = ("rates", "peers", "freshness", "memory", "states")
WARM_S = 60.0
"""For so long under each kind of load a broker is not measured: Java compiles it then, on up to a third of a core."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.streaming", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=2_000_000, help="distinct events in the topic")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow-events", type=int, default=200_000, help="for those who go event by event")
    parser.add_argument("--memory-events", type=int, default=10_000_000)
    parser.add_argument("--live-seconds", type=float, default=30)
    parser.add_argument(
        "--live-rate", type=float, help="events a second; half of what it takes in, by default"
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
        if rates or facts:
            scale = f"{asked.events:,} events of the shop in {PARTITIONS} partitions, {asked.users:,} users,"
            show(f"kafka_stream: {scale} {asked.items:,} items; 18 features in 4 views", rates, facts)


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
    if "rates" in parts:
        rated(bench, asked.rounds, rates, facts)
    if "freshness" in parts:
        facts += fresh(empty, asked.live_rate, asked.live_seconds, asked.rounds)
    if "peers" in parts:
        against_peers(bench, asked, rates, facts)


def in_rounds(
    bench: Bench, rounds: int, runs: Mapping[str, Callable[[], Rate]], rates: list[Rate]
) -> dict[str, list[Rate]]:
    """Each of the runs once a round, with the floor beside it; of every run the median goes into the table."""
    found: dict[str, list[Rate]] = {name: [] for name in runs}
    told("floor")
    before = ours.floor(bench)
    floors = [before]
    for number in range(1, rounds + 1):
        for name, run in runs.items():
            told(f"round {number}: {name}")
            rate, after = run(), ours.floor(bench)
            assert before.cpu_s is not None and after.cpu_s is not None
            beside = Rate(
                after.name,
                before.events + after.events,
                before.wall_s + after.wall_s,
                before.cpu_s + after.cpu_s,
            )
            found[name].append(replace(rate, floor=beside))
            floors.append(after)
            before = after
    rates += [_middle(each) for each in ([replace(each, floor=each) for each in floors], *found.values())]
    return found


def _middle(found: Sequence[Rate]) -> Rate:
    return sorted(found, key=lambda rate: rate.share or rate.a_second)[len(found) // 2]


def _against(ones: Sequence[Rate], others: Sequence[Rate]) -> list[float]:
    """How much faster the ones were than the others in each round, by what each was of its floor."""
    return [(one.share or 0) / (other.share or 1) for one, other in zip(ones, others, strict=True)]


def _beside(ones: Sequence[Rate], others: Sequence[Rate]) -> list[float]:
    """The same of runs that follow one another: two floors would only add their own noise."""
    return [one.a_second / other.a_second for one, other in zip(ones, others, strict=True)]


def told(what: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')} {what}", flush=True)


def rated(bench: Bench, rounds: int, rates: list[Rate], facts: list[Fact]) -> None:
    """Ours, in all its ways."""
    told("the size of small batches")
    rows = ours.small_batch(bench)
    wholes: list[Rate] = []

    def catching_up() -> Rate:
        whole, rate = ours.catching_up(bench, "ours catching up")
        wholes.append(whole)
        return rate

    found = in_rounds(
        bench,
        rounds,
        {
            "catching up": catching_up,
            "with de-duplication": lambda: ours.catching_up(bench, "ours, de-duplication on", dedupe=True)[1],
            "small batches": lambda: ours.in_small_batches(bench, rows),
            "one worker": lambda: live.catching_up(bench, 1),
            "two workers": lambda: live.catching_up(bench, 2),
        },
        rates,
    )
    rates.append(_middle(wholes))
    off, on, small, one, two = found.values()
    facts += [
        at_least("catching up / floor", [rate.share or 0 for rate in off], 0.25),
        at_least("at 200 ms / floor", [rate.share or 0 for rate in small], 0.20),
        at_most("CPU of worker and Redis / floor", [rate.times_cpu or 0 for rate in off], 5.5),
        at_most("time with de-duplication / without", _beside(off, on), 1.05),
        at_least("two workers / one", _beside(two, one), 1.0),
    ]


def against_peers(bench: Bench, asked: argparse.Namespace, rates: list[Rate], facts: list[Fact]) -> None:
    told("per event in Python")
    slow = peers.per_event(bench, asked.slow_events)
    rates.append(slow)
    features = next((rate for rate in rates if rate.name == "ours catching up"), None)
    if features is not None:
        facts.append(at_least("18 features / per event in Python", [features.a_second / slow.a_second], 5))
    for job in JOBS:
        runs: dict[str, Callable[[], Rate]] = {
            "ours": lambda job=job: ours.catching_up(bench, f"ours, count and sum, {job}", job=job)[1]
        }
        if peers.has_quix(asked.peers):
            for form, share in QUIX[job].items():
                events = round(asked.slow_events * share)
                runs[f"Quix Streams, {form}"] = partial(peers.quix, bench, form, events, asked.peers)
        if peers.has_spark(asked.peers):
            runs["Spark"] = partial(peers.spark, bench, job, asked.peers)
        told(f"count and sum, {job}")
        found = in_rounds(bench, asked.rounds, runs, rates)
        mine = found.pop("ours")
        facts += [
            at_least(f"{job} / {peer}", _against(mine, theirs), 1.5 if peer == "Spark" else 15)
            for peer, theirs in found.items()
        ]


def fresh(empty: Bench, asked_rate: float | None, seconds: float, rounds: int) -> list[Fact]:
    """At half load: producer, broker and stream share the cores, and the load is half of what they can do together
    just then.
    """
    told("the broker is warmed up")
    live.freshness(empty, live.capacity(empty, WARM_S) / 2, WARM_S)
    taken: list[float] = []
    found: list[live.Freshness] = []
    for number in range(1, rounds + 1):
        told(f"round {number}: what is taken in while more is sent")
        taken.append(live.capacity(empty) if asked_rate is None else 2 * asked_rate)
        told(f"round {number}: freshness at {taken[-1] / 2:,.0f} events/s")
        found.append(live.freshness(empty, taken[-1] / 2, seconds))
    probes = sum(each.probes for each in found)
    return [
        Fact("events/s taken in while more are sent", spread(taken, ",.0f")),
        Fact(
            "freshness at half of that, p50 by its metrics, ms", spread([1e3 * each.p50_s for each in found])
        ),
        at_most("... p99", [1e3 * each.p99_s for each in found], 500),
        Fact(f"... p50 by {probes:,} events read back", spread([1e3 * each.probe_p50_s for each in found])),
        at_most("... p99", [1e3 * each.probe_p99_s for each in found], 500),
        Fact(
            "the producer was behind its rate by at most, ms", spread([1e3 * each.behind_s for each in found])
        ),
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
            at_most("... the last / the second", [ratio], 1.1),
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
        at_most("ours / one key per feature", [found.compact / found.keys], 0.5),
        at_most("ours by default / one key per feature", [found.default / found.keys], 0.5),
    ]


if __name__ == "__main__":
    main()
