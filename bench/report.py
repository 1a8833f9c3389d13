"""What the benchmarks share: a project to measure, a command timed, a table printed and kept as JSON."""

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

FEATUREFLOW = Path(sys.executable).with_name("featureflow")
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Figure:
    """One line: `amount` of `unit` in `seconds`. `floor` lines say what the same work costs at the least."""

    name: str
    amount: int
    unit: str
    seconds: float
    floor: bool = False

    @property
    def rate(self) -> float:
        return self.amount / self.seconds


def run(project: Path, *words: str) -> float:
    """Seconds that a featureflow command takes as a whole process; its output is shown where it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [FEATUREFLOW, "-c", project, *words],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"featureflow {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return seconds


def shop(project: Path, events: int, labels: int = 0) -> float:
    """A new ecommerce project with that many events, applied; seconds that an empty command takes."""
    run(project.parent, "init", project.name)
    run(
        project,
        "generate",
        "--events",
        str(events),
        "--labels",
        str(labels),
        "--users",
        "20000",
        "--items",
        "2000",
    )
    run(project, "apply", "--yes")
    return run(project, "ls")


def report(name: str, figures: list[Figure]) -> None:
    """Prints the table, each line as a multiple of the first floor, and keeps it in bench/results/NAME.json."""
    floor = next(figure for figure in figures if figure.floor)
    print(f"\n{name}  ({os.cpu_count()} cores, Python {platform.python_version()}, {platform.machine()})")
    print(f"  {'':44}{'seconds':>9}{'per second':>16}{'of the floor':>15}")
    for figure in figures:
        share = "floor" if figure.floor else f"{floor.rate / figure.rate:.1f}x"
        print(f"  {figure.name:44}{figure.seconds:9.3f}{figure.rate:12,.0f} {figure.unit:<10}{share:>8}")
    RESULTS.mkdir(exist_ok=True)
    lines = [{**asdict(figure), "rate": figure.rate} for figure in figures]
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"benchmark": name, **machine, "figures": lines}, indent=2) + "\n")
