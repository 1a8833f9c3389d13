"""Label rows a second through `featureflow build-dataset`: 19 columns at each label's own moment, audited.

The floor has DuckDB read the columns that the features need from the same offline log, and sort them by entity
and time: any exact point-in-time join has to do that much.

    python bench/dataset.py --events 1000000 --labels 100000
"""

import argparse
import tempfile
import time
from pathlib import Path

from report import Figure, report, run, shop

COLUMNS = "epoch_us(timestamp) AS ts, event_type, category, session_id, total_amount, rating"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=100_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "shop"
        start_up = shop(project, asked.events, asked.labels)
        run(project, "stream", "--once")
        floor = read_and_sort(project)
        seconds = run(
            project,
            "build-dataset",
            "--labels",
            "data/labels.parquet",
            "--service",
            "ranking_v1",
            "--output",
            "data/train.parquet",
        )
    report(
        "dataset",
        [
            Figure("read and sort the columns, by user and by item", asked.labels, "rows", floor, floor=True),
            Figure("build-dataset, without its start-up", asked.labels, "rows", seconds - start_up),
            Figure("build-dataset, the whole process", asked.labels, "rows", seconds),
        ],
    )


def read_and_sort(project: Path) -> float:
    """Seconds for DuckDB to sort the log's columns once for each entity, into memory."""
    import duckdb
    from deltalake import DeltaTable

    files = DeltaTable(project / "data/offline/user_events").file_uris()
    started = time.perf_counter()
    with duckdb.connect() as connection:
        for key in ("user_id", "item_id"):
            connection.execute(
                f"CREATE TABLE by_{key} AS SELECT {key}, {COLUMNS} FROM read_parquet($files) ORDER BY {key}, ts",
                {"files": files},
            ).fetchall()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
