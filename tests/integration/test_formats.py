"""The same shop in Parquet, NDJSON and CSV, through the same definitions: the same training set."""

from pathlib import Path

import pyarrow.parquet as pq
from typer.testing import CliRunner

from featureflow_cli.cli.main import app
from featureflow_cli.generate.files import Format, generate
from featureflow_cli.generate.shop import Scale
from featureflow_cli.init.templates import create
from featureflow_cli.times import DAY_US, parse_timestamp

SHOP = Scale(
    events=3_000,
    users=60,
    items=20,
    span_us=2 * DAY_US,
    end_us=parse_timestamp("2026-01-08"),
    duplicates=0.05,
)
RUN = CliRunner()


def _featureflow(project: Path, *words: str) -> str:
    done = RUN.invoke(app, ["-c", str(project), *words])
    assert done.exit_code == 0, done.output
    return done.output


def _training_set(project: Path, format: Format) -> list[dict[str, object]]:
    create(project, "ecommerce")
    definitions = project / "features/shop.yaml"
    definitions.write_text(definitions.read_text().replace("events/*.parquet", f"events/*.{format}"))
    generate(
        SHOP,
        project / "data/events",
        format=format,
        files=3,
        labels=200,
        labels_out=project / "data/labels.parquet",
    )
    _featureflow(project, "apply", "--yes")
    streamed = _featureflow(project, "stream", "--once")
    assert "3,000 applied" in streamed  # each event once, though some were delivered twice
    _featureflow(
        project,
        *("build-dataset", "--labels", "data/labels.parquet", "--service", "ranking_v1"),
        *("--output", "data/train.parquet"),
    )
    return pq.read_table(project / "data/train.parquet").to_pylist()


def test_the_format_of_the_files_changes_no_value(tmp_path: Path) -> None:
    parquet = _training_set(tmp_path / "parquet", "parquet")
    assert len(parquet) > 100
    assert any(row["user_activity__total_spend_24h"] for row in parquet)
    assert _training_set(tmp_path / "ndjson", "ndjson") == parquet
    assert _training_set(tmp_path / "csv", "csv") == parquet
