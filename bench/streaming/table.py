"""The one table: rates beside the floor of the same run, and what else was measured."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.report import RESULTS


@dataclass(frozen=True)
class Rate:
    """Events through something, at the cost of so many CPU seconds (None: not measured)."""

    name: str
    events: int
    wall_s: float
    cpu_s: float | None = None

    @property
    def a_second(self) -> float:
        return self.events / self.wall_s

    @property
    def cpu_us(self) -> float | None:
        return None if self.cpu_s is None else self.cpu_s / self.events * 1e6


@dataclass(frozen=True)
class Fact:
    """One line of words; `target` is what it shall be, `met` whether it is (None: it has none)."""

    name: str
    figure: str
    target: str = ""
    met: bool | None = None


def at_least(name: str, ratio: float, target: float, what: str = "") -> Fact:
    return Fact(name, f"{ratio:.2f}{what}", f"at least {target:g}", ratio >= target)


def at_most(name: str, ratio: float, target: float, what: str = "") -> Fact:
    return Fact(name, f"{ratio:.2f}{what}", f"at most {target:g}", ratio <= target)


def show(title: str, rates: Sequence[Rate], facts: Sequence[Fact]) -> None:
    """Prints it; the first rate is the floor. Kept in bench/results/kafka_stream.json."""
    floor = rates[0]
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "load": [round(each, 2) for each in os.getloadavg()],
    }
    print(f"\n{title}")
    print(
        f"  {machine['cores']} cores, Python {machine['python']}, {machine['machine']}, load {machine['load']}"
    )
    print(f"  {'':58}{'events/s':>11}{'of floor':>10}{'CPU us/event':>14}{'of floor':>10}")
    for rate in rates:
        cpu, times = rate.cpu_us, ""
        if cpu is not None and floor.cpu_us:
            times = f"{cpu / floor.cpu_us:.2f}x"
        shown = "" if cpu is None else f"{cpu:.2f}"
        share = "floor" if rate is floor else f"{rate.a_second / floor.a_second:.3f}"
        print(f"  {rate.name:58}{rate.a_second:11,.0f}{share:>10}{shown:>14}{times:>10}")
    print()
    for fact in facts:
        verdict = "" if fact.met is None else ("met" if fact.met else "MISSED")
        print(f"  {fact.name:58}{fact.figure:>24}   {fact.target:16}{verdict}")
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "benchmark": title,
        **machine,
        "rates": [{**asdict(rate), "events_per_s": rate.a_second} for rate in rates],
        "facts": [asdict(fact) for fact in facts],
    }
    (RESULTS / "kafka_stream.json").write_text(json.dumps(kept, indent=2) + "\n")
