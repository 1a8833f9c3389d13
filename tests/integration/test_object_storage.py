"""A whole project whose offline store is a bucket: every verb answers as it does with a folder."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.projects import Bank, Done
from tests.services.s3 import S3Server

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")


@pytest.fixture
def banks(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> tuple[Bank, Bank]:
    """The same payments of three days, some of them refused, in a folder and in a bucket."""
    folder, bucket = Bank(tmp_path / "folder"), Bank(tmp_path / "bucket")
    for name, value in s3.environ.items():
        if name.startswith("AWS_") and "ENDPOINT" not in name:
            monkeypatch.setenv(name, value)
    config = bucket.root / "feature_store.yaml"
    store = f'{{path: "s3://{s3.bucket()}/shop", options: {{endpoint: "{s3.endpoint}", path_style: true}}}}'
    config.write_text(f"{config.read_text()}offline_store: {store}\n")
    for bank in (folder, bucket):
        must(bank, "apply", "-y")
        for day in DAYS:
            put(bank, day)
            must(bank, "stream", "--once")
    return folder, bucket


def must(bank: Bank, *words: str) -> Done:
    done = bank(*words)
    assert done.code == 0, done.stderr
    return done


def put(bank: Bank, day: str) -> None:
    """Forty payments of a day, and a line that is none."""
    events = [
        {
            "id": f"{day}-{n}",
            "card_id": f"c{n % 3}",
            "shop_id": n % 5,
            "amount": f"{n}.25",
            "at": f"{day}T10:{n}:00Z",
        }
        for n in range(10, 50)
    ]
    path = bank.root / "data" / "payments" / f"{day}.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*map(json.dumps, events), "rubbish"]))


def dataset(bank: Bank, name: str) -> pa.Table:
    labels = pa.table({"card_id": ["c0", "c1", "c2"], "timestamp": ["2026-01-02T12:00:00Z"] * 3})
    pq.write_table(labels, bank.root / "labels.parquet")
    must(bank, "build-dataset", "--labels", "labels.parquet", "--service", "fraud", "--output", name)
    return pq.read_table(bank.root / name)


def test_a_bucket_holds_what_a_folder_holds(banks: tuple[Bank, Bank]) -> None:
    """Status, letters, dataset, past vectors and skew; before and after compaction."""
    folder, bucket = banks
    wanted = dataset(folder, "a.parquet")
    assert wanted.num_rows == 3
    for round in range(2):
        statuses = [json.loads(must(bank, "status", "--json").stdout)["sources"][0] for bank in banks]
        assert [(each["events"], each["letters"]) for each in statuses] == [(120, 3), (120, 3)]
        assert dataset(bucket, f"{round}.parquet").equals(wanted)
        must(bucket, "check-skew")
        vector = (
            "get",
            "--service",
            "fraud",
            "--entity",
            "card_id=c1",
            "--at",
            "2026-01-02T10:30:00Z",
            "--json",
        )
        assert must(bucket, *vector).stdout == must(folder, *vector).stdout
        must(bucket, "compact", "--vacuum")
    must(bucket, "doctor")


def test_states_are_built_anew_from_a_bucket(banks: tuple[Bank, Bank]) -> None:
    """A changed view's bootstrap, and an online store that was lost."""
    _, bucket = banks
    bucket.replace("sum: amount, window: 1h, resolution", "sum: amount, window: 2h, resolution")
    assert "120" in must(bucket, "plan").stdout
    must(bucket, "apply", "-y")
    must(bucket, "stream", "--once")
    must(bucket, "check-skew")
    for path in bucket.root.glob("data/online.db*"):
        path.unlink()
    must(bucket, "stream", "--once")
    must(bucket, "check-skew")


@pytest.mark.slow
def test_a_bucket_that_is_away_is_said_without_its_keys(banks: tuple[Bank, Bank], s3: S3Server) -> None:
    """Exit code 4 and a line; with it back, nothing is lost."""
    _, bucket = banks
    put(bucket, "2026-01-04")
    s3.process.freeze()
    try:
        done = bucket("status")
    finally:
        s3.process.thaw()
    assert done.code == 4, done.stderr
    assert "s3://" in done.stderr
    assert "secret" not in done.stderr + done.stdout
    must(bucket, "stream", "--once")
    must(bucket, "check-skew")
