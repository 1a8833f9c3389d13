"""`featureflow generate` and `featureflow init`, as a user calls them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
from typer.testing import CliRunner

from featureflow_cli.cli.main import app

RUN = CliRunner()


def test_generate_reports_the_files_that_it_wrote(tmp_path: Path) -> None:
    asked = ["generate", "--events", "500", "--labels", "20", "--files", "2", "--end", "2026-01-08", "--json"]
    done = RUN.invoke(app, ["-c", str(tmp_path), *asked])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["events"] == 500
    rows = sum(pq.read_metadata(path).num_rows for path in report["files"])
    assert rows == 500 + report["repeated"]
    labels = pq.read_table(report["labels"])
    assert labels.column_names == ["user_id", "item_id", "timestamp", "label"]
    assert labels.num_rows == report["label_rows"] == 20
    assert set(labels["label"].to_pylist()) <= {0, 1}


def test_generate_twice_adds_nothing_and_says_why(tmp_path: Path) -> None:
    asked = ["-c", str(tmp_path), "generate", "--events", "50", "--end", "2026-01-08"]
    assert RUN.invoke(app, asked).exit_code == 0
    again = RUN.invoke(app, asked)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_generate_names_the_option_that_makes_no_sense(tmp_path: Path) -> None:
    for option, value in (("--end", "yesterday"), ("--span", "long"), ("--events", "0"), ("--late", "2")):
        done = RUN.invoke(app, ["-c", str(tmp_path), "generate", option, value])
        assert done.exit_code == 2
        assert option in done.stderr


def test_init_lists_files_on_stdout_and_next_steps_on_stderr(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["-c", str(tmp_path), "init", "shop"])
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "shop" / "feature_store.yaml") in done.stdout.splitlines()
    assert "featureflow apply" in done.stderr
    again = RUN.invoke(app, ["-c", str(tmp_path), "init", "shop"])
    assert again.exit_code == 2
    assert "overwrites nothing" in again.stderr
