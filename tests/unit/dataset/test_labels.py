"""Label files: what is read, what is taken as the moment, and what is refused with which words."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featureflow_cli.dataset.labels import labels_of, read_labels
from featureflow_cli.errors import NotFound, UsageError
from featureflow_cli.times import parse_timestamp

NOON_US = parse_timestamp("2026-01-01T12:00:00Z")


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T12:00:00Z",
        "2026-01-01 12:00:00",
        "2026-01-01T13:00:00+01:00",
        "2026-01-01T12:00:00.0000009Z",
    ],
)
def test_texts_are_read_as_the_law_says(tmp_path: Path, text: str):
    """Without a zone it is UTC; finer digits than microseconds are floored."""
    path = tmp_path / "labels.csv"
    path.write_text(f"user_id,timestamp,label\n1,{text},1\n")
    labels = read_labels(path)
    assert labels.t_us.tolist() == [NOON_US]
    assert labels.table.column_names == ["user_id", "timestamp", "label"]


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("us"), pa.timestamp("ns", "Europe/Berlin")],
)
def test_timestamps_of_every_unit_are_microseconds_utc(tmp_path: Path, kind: pa.DataType):
    ticks = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[kind.unit]
    column = pa.array([NOON_US // 1_000_000 * ticks], pa.int64()).cast(kind)
    pq.write_table(pa.table({"event_timestamp": column}), tmp_path / "labels.parquet")
    assert read_labels(tmp_path / "labels.parquet").t_us.tolist() == [NOON_US]


def test_a_moment_before_1970_floors_downwards():
    column = pa.array([-1], pa.int64()).cast(pa.timestamp("ns"))
    assert labels_of(pa.table({"timestamp": column})).t_us.tolist() == [-1]


def test_a_null_moment_is_refused_with_its_row():
    column = pa.array([1, None], pa.timestamp("us"))
    with pytest.raises(UsageError, match="null in row 2"):
        labels_of(pa.table({"timestamp": column}))


def test_what_is_no_moment_is_refused_with_its_row(tmp_path: Path):
    path = tmp_path / "labels.ndjson"
    path.write_text('{"user_id": 1, "timestamp": "2026-01-01"}\n{"user_id": 1, "timestamp": "soon"}\n')
    with pytest.raises(UsageError, match=r"row 2.*'soon' is not an ISO 8601 timestamp"):
        read_labels(path)


def test_a_missing_column_is_told_with_the_nearest():
    with pytest.raises(NotFound) as refused:
        labels_of(pa.table({"timestmp": pa.array([1], pa.timestamp("us"))}))
    assert refused.value.hint == "did you mean 'timestmp'?"


def test_a_number_is_no_moment():
    with pytest.raises(UsageError, match="is int64: write timestamps"):
        labels_of(pa.table({"timestamp": pa.array([1])}))


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"\.parquet, \.csv or \.ndjson"):
        read_labels(tmp_path / "labels.xlsx")
