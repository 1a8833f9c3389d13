"""How long a command takes to answer: `featureflow --help` (150 ms at most) and `plan` on the shop (1 s at most).

The floor is the Python interpreter doing nothing.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import FEATUREFLOW, Figure, report, run

TIMES = 11


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "shop"
        run(project.parent, "init", project.name)
        figures = [
            Figure("python -c pass", 1, "runs", median(sys.executable, "-c", "pass"), floor=True),
            Figure("featureflow --help", 1, "runs", median(FEATUREFLOW, "--help")),
            Figure("featureflow -c shop plan", 1, "runs", median(FEATUREFLOW, "-c", project, "plan")),
        ]
    report("cli", figures)


def median(*words: object) -> float:
    """The middle of TIMES runs, in seconds."""

    def once() -> float:
        started = time.perf_counter()
        subprocess.run(
            [str(word) for word in words], check=True, capture_output=True, stdin=subprocess.DEVNULL
        )
        return time.perf_counter() - started

    return statistics.median(once() for _ in range(TIMES))


if __name__ == "__main__":
    main()
