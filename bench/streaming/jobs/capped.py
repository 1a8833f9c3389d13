"""`featureflow stream --once` with at most so many rows a batch, for the rate that small batches allow.

    python -m bench.streaming.jobs.capped PROJECT_FOLDER ROWS

Prints the counts, and the mean seconds from one batch to the next and of a batch from its poll to its marker.
"""

import json
import os
import sys
import threading

from featureflow_cli.evaluate.project import open_project
from featureflow_cli.stream.progress import Progress
from featureflow_cli.stream.run import run
from featureflow_cli.times import system_clock


def main() -> None:
    folder, rows = sys.argv[1], int(sys.argv[2])
    progress: dict[str, Progress] = {}
    project = open_project(folder, None, dict(os.environ), system_clock)
    report = run(project, once=True, stop=threading.Event(), batch_rows=rows, progress=progress)
    (source,) = progress.values()
    seconds = {name: float(each.sum) for name, each in source.steps.items()}
    batches = max(1, int(source.steps["write"].counts.sum()) if "write" in source.steps else 0)

    def mean(*steps: str) -> float:
        return sum(seconds.get(step, 0.0) for step in steps) / batches

    every_s, batch_s = mean("send", "poll", "wait", "commit"), mean("poll", "wait", "write", "mark")
    print(json.dumps({"read": report.read, "batches": batches, "every_s": every_s, "batch_s": batch_s}))


if __name__ == "__main__":
    main()
