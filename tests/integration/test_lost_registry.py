"""A table that others keep, after the registry that listed its files was lost, or put back from an old copy."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.projects import Bank


@pytest.fixture(params=["with ids", "without"])
def bank(tmp_path: Path, request: pytest.FixtureRequest) -> Bank:
    """Payments of one card as a table, two files of it applied. With ids every start reads all files again."""
    made = Bank(tmp_path)
    made.replace(
        'stream: {files: {path: "data/payments/*.ndjson"}}', 'batch: {path: "data/payments/*.ndjson"}'
    )
    if request.param == "without":
        made.replace("    event_id: id\n    dedupe_within: 1h\n", "")
    (tmp_path / "labels.csv").write_text("card_id,timestamp\nc,2026-01-01T00:00:01Z\n")
    assert made("apply", "-y").code == 0
    for name in ("m", "n"):
        put(made, name)
        assert made("stream", "--once").code == 0
    return made


def put(bank: Bank, name: str, events: int = 10) -> None:
    """A file of payments at midnight; each name's events are its own."""
    path = bank.root / "data" / "payments" / f"{name}.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    payment = {"card_id": "c", "shop_id": 1, "amount": "1.00", "at": "2026-01-01T00:00:00Z"}
    path.write_text("".join(json.dumps(payment | {"id": f"{name}{n}"}) + "\n" for n in range(events)))


def train(bank: Bank):  # type: ignore[no-untyped-def]
    words = ["--labels", "labels.csv", "--output", "train.csv", "--features", "card_spending:payments_24h"]
    return bank("build-dataset", *words)


def assert_holds(bank: Bank, events: int) -> None:
    """So many events in training, and states that agree with it."""
    assert train(bank).code == 0
    assert (bank.root / "train.csv").read_text().splitlines()[-1].endswith(f",{events}")
    assert bank("check-skew").code == 0


def test_a_new_registry_builds_new_states_whoever_lists_the_files_first(bank: Bank) -> None:
    """A file that is first by name gets the offsets of another one; the old states are never met again."""
    (bank.root / "data" / "registry.db").unlink()
    assert bank("apply", "-y").code == 0
    put(bank, "a", 3)
    first = train(bank)
    assert first.code == 0
    assert bank("stream", "--once").code == 0
    assert_holds(bank, 23)


def test_what_a_lost_registry_left_is_swept_and_nothing_else(bank: Bank) -> None:
    """Whoever has no registry sweeps nothing: it may lie elsewhere."""
    (bank.root / "data" / "registry.db").unlink()
    done = bank("sweep", "-y")
    assert (done.code, "nothing is applied yet" in done.stderr) == (2, True)
    assert bank("apply", "-y").code == 0
    assert bank("stream", "--once").code == 0
    served = bank("get", "--service", "fraud", "--entity", "card_id=c").stdout
    named = json.loads(bank("sweep", "--json").stdout)
    assert (len(named["fields"]), named["dropped"]) == (3, False)
    done = bank("sweep", "-y")
    assert done.stdout.split() == named["fields"]
    assert bank("sweep").stdout == "The registry knows all states in the online store.\n"
    assert bank("get", "--service", "fraud", "--entity", "card_id=c").stdout == served
    assert_holds(bank, 20)


@pytest.mark.parametrize("first", ["a reader", "the stream"])
def test_an_old_copy_gives_no_offset_to_another_file(bank: Bank, first: str) -> None:
    """The copy lists m and n; states know o as well when a comes."""
    registry = bank.root / "data" / "registry.db"
    shutil.copy(registry, bank.root / "copy.db")
    put(bank, "o")
    assert bank("stream", "--once").code == 0
    whole = registry.read_bytes()
    shutil.copy(bank.root / "copy.db", registry)
    put(bank, "a", 3)
    for _ in range(2):
        done = train(bank) if first == "a reader" else bank("stream", "--once")
        assert done.code == 1
        assert "does not list" in done.stderr
        assert "put that registry back" in done.stderr
    registry.write_bytes(whole)
    assert bank("stream", "--once").code == 0
    assert_holds(bank, 33)
