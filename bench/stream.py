"""Events a second through `featureflow stream --once`: decoded, checked, de-duplicated, folded into the state of
18 features, written online and offline, durably. The floor reads and decodes the same files and does no more.

    python bench/stream.py --events 500000
"""

import argparse
import tempfile
import time
from pathlib import Path

from report import Figure, report, run, shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "shop"
        start_up = shop(project, events)
        floor = decode(project)
        seconds = run(project, "stream", "--once")
        again = run(project, "stream", "--once")
    report(
        "stream",
        [
            Figure("read and decode only", events, "events", floor, floor=True),
            Figure("stream --once, without its start-up", events, "events", seconds - start_up),
            Figure("stream --once, the whole process", events, "events", seconds),
            Figure("the same again: nothing to do", events, "events", again),
        ],
    )


def decode(project: Path) -> float:
    """Seconds to read every event file into checked columns of the source's types."""
    import numpy as np
    import pyarrow.parquet as pq

    from featureflow_cli.compute.compiling import compile_repo
    from featureflow_cli.sources.decode import decode_table
    from featureflow_cli.spec.repo import load

    loaded = load(project, None, {})
    source = compile_repo(loaded.config, loaded.definitions).sources["user_events"]
    paths = sorted((project / "data/events").glob("*.parquet"))

    def read(path: Path) -> None:
        table = pq.read_table(path)
        decode_table(table, np.arange(table.num_rows), source)

    read(paths[0])  # imports are not part of the floor
    started = time.perf_counter()
    for path in paths:
        read(path)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
