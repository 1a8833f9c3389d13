"""The one table: rates beside the floor of the same run, and what else was measured."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from bench.report import RESULTS


@dataclass(frozen=True)
class Rate:
    """Events through something, at the cost of so many CPU seconds (None: not measured).

    `floor` is what the floor made of it just before and just after.
    """

    name: str
    events: int
    wall_s: float
    cpu_s: float | None = None
    floor: "Rate | None" = None

    @property
    def a_second(self) -> float:
        return self.events / self.wall_s

    @property
    def cpu_us(self) -> float | None:
        return None if self.cpu_s is None else self.cpu_s / self.events * 1e6

    @property
    def share(self) -> float | None:
        """Of the floor's rate."""
        return None if self.floor is None else self.a_second / self.floor.a_second

    @property
    def times_cpu(self) -> float | None:
        """The floor's CPU an event."""
        floor = None if self.floor is None else self.floor.cpu_us
        return None if self.cpu_us is None or floor is None else self.cpu_us / floor


@dataclass(frozen=True)
class Fact:
    """One line of words; `target` is what it shall be, `met` whether it is (None: it has none)."""

    name: str
    figure: str
    target: str = ""
    met: bool | None = None


def at_least(name: str, ratios: Sequence[float], target: float) -> Fact:
    """The median of what the rounds found, and between what they lie."""
    return Fact(name, spread(ratios), f"at least {target:g}", median(ratios) >= target)


def at_most(name: str, ratios: Sequence[float], target: float) -> Fact:
    return Fact(name, spread(ratios), f"at most {target:g}", median(ratios) <= target)


def spread(figures: Sequence[float], form: str = ".3g") -> str:
    """The median, and between what they lie."""
    found = f"{median(figures):{form}}"
    return found if len(figures) == 1 else f"{found} ({min(figures):{form}} to {max(figures):{form}})"


def show(title: str, rates: Sequence[Rate], facts: Sequence[Fact]) -> None:
    """Prints it. Kept in bench/results/kafka_stream.json."""
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
        cpu, share, times = (
            "" if each is None else f"{each:.{digits}f}{unit}"
            for each, digits, unit in ((rate.cpu_us, 2, ""), (rate.share, 3, ""), (rate.times_cpu, 2, "x"))
        )
        print(f"  {rate.name:58}{rate.a_second:11,.0f}{share:>10}{cpu:>14}{times:>10}")
    print()
    for fact in facts:
        verdict = "" if fact.met is None else ("met" if fact.met else "MISSED")
        print(f"  {fact.name:58}{fact.figure:>24}   {fact.target:16}{verdict}")
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "benchmark": title,
        **machine,
        "rates": [{**asdict(rate), "events_per_s": rate.a_second, "share": rate.share} for rate in rates],
        "facts": [asdict(fact) for fact in facts],
    }
    (RESULTS / "kafka_stream.json").write_text(json.dumps(kept, indent=2) + "\n")
