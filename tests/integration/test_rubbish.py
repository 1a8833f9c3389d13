"""What a user may throw at it: rubbish in files, disks that are full or read-only, stores that are gone or damaged.

Each gives a dead letter, or a message of a few lines with a fitting exit code; and with the cause removed,
nothing is lost.
"""

import gc
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featureflow_cli.evaluate.project import open_project
from featureflow_cli.stream.run import run
from featureflow_cli.times import system_clock
from tests.cli.projects import Bank, Done

STORES = """
registry: reg/registry.db
online_store: {type: sqlite, path: on/online.db}
offline_store: {type: delta, path: off/log}
stream: {commit_interval: 50ms}
"""


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """The bank with each store in a folder of its own."""
    made = Bank(tmp_path / "bank")
    config = made.root / "feature_store.yaml"
    config.write_text(config.read_text() + STORES)
    return made


@pytest.fixture
def disk(bank: Bank) -> Iterator[Callable[[str, str], None]]:
    """`disk(folder, options)` makes the folder a disk of its own, or changes its options."""
    mounted: list[str] = []

    def mount(folder: str, options: str) -> None:
        place = bank.root / folder
        place.mkdir(exist_ok=True)
        gc.collect()  # a command's connections end with its process, which here goes on
        words = ["-o", f"remount,{options}"] if folder in mounted else ["-t", "tmpfs", "-o", options, "tmpfs"]
        if subprocess.run(["mount", *words, str(place)], capture_output=True, check=False).returncode:
            pytest.skip("mounting needs root")
        mounted.append(folder)

    yield mount
    for folder in set(mounted):
        subprocess.run(["umount", "--lazy", str(bank.root / folder)], check=True)


def payment(number: int, **fields: object) -> str:
    event = {"id": f"p{number}", "card_id": "c", "shop_id": number % 5, "amount": "1.25"}
    return json.dumps(event | {"at": "2026-01-01T00:00:00Z"} | fields)


def put(bank: Bank, name: str, content: bytes) -> Path:
    path = bank.root / "data" / "payments" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_good(bank: Bank, name: str, start: int, count: int = 100) -> Path:
    lines = [payment(number) for number in range(start, start + count)]
    return put(bank, f"{name}.ndjson", "\n".join(lines).encode())


def applied(bank: Bank) -> Bank:
    assert bank("apply", "-y").code == 0
    return bank


def assert_explained(done: Done, code: int, *words: str) -> None:
    """That exit code, and a message that a person can read."""
    assert done.code == code, done.stderr
    assert "bug in featureflow" not in done.stderr
    assert len(done.stderr) < 800
    for word in words:
        assert word in done.stderr


def assert_holds(bank: Bank, events: int) -> None:
    """So many events are in the log and, by check-skew, in the online state."""
    status = json.loads(bank("status", "--json").stdout)
    assert status["sources"][0]["events"] == events
    assert bank("check-skew").code == 0
    held = bank("get", "--features", "card_spending:payments_24h", "--entity", "card_id=c",
                "--at", "2026-01-01T00:00:01Z", "--json")  # fmt: skip
    assert json.loads(held.stdout)["features"]["card_spending__payments_24h"] == events


LINES = {
    '{"id": "x", "card_id": "c", "at': "undecodable",
    "[]": "undecodable",
    "null": "undecodable",
    "[" * 100_000: "undecodable",
    payment(1, card_id=None): "null",
    payment(2, at=None): "null",
    payment(3, shop_id="seven"): "wrong_type",
    payment(4, shop_id=2**63): "wrong_type",
    payment(5, amount="1.255"): "wrong_type",
    payment(6, amount="NaN"): "wrong_type",
    payment(7, at="9999-12-31T23:59:59Z"): "future",
    payment(8, at="99999-01-01"): "wrong_type",
    payment(9, at="2026-02-30"): "wrong_type",
    payment(10, nobody={"declared": ["this"]}): "",
    payment(11, card_id="c", note="x" * 10_000_000): "",
}


def test_each_bad_line_is_a_letter_and_costs_no_other_line(bank: Bank) -> None:
    """Unknown fields and a text of 10 MB are no fault."""
    put(
        applied(bank),
        "a.ndjson",
        b"\xef\xbb\xbf" + "\n".join(LINES).encode() + b"\n\xff\xfe\n\n" + payment(12).encode(),
    )
    assert bank("stream", "--once").code == 0
    letters = json.loads(bank("dead-letters", "list", "--json").stdout)
    found = {letter["offset"]: letter["reason"] for letter in letters}
    expected = {place: reason for place, reason in enumerate(LINES.values()) if reason}
    assert found == expected | {len(LINES): "undecodable"}
    assert_holds(bank, 3)


def parquet(keep: float) -> bytes:
    rows = pa.table({"id": [f"q{n}" for n in range(1000)], "card_id": ["c"] * 1000})
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    whole: bytes = sink.getvalue().to_pybytes()
    return whole[: int(len(whole) * keep)]


@pytest.mark.parametrize(
    ("name", "content", "letters"),
    [
        ("b.parquet", b"garbage" * 100, 1),
        ("b.parquet", b"", 1),
        ("b.parquet", parquet(0.5), 1),
        ("b.csv", b"id,card_id,id,at\nx,c,y,2026-01-01\n", 1),
        ("b.csv", b"", 0),
        ("b.csv", b"id,card_id,at\n", 0),
        ("b.ndjson", b"", 0),
        ("b.ndjson", b"\n\n\n", 0),
    ],
    ids=["garbage", "zero bytes", "truncated", "a column twice", "empty", "a header only", "no line", "blank lines"],
)  # fmt: skip
def test_a_bad_file_is_one_letter_and_costs_no_other_file(
    bank: Bank, name: str, content: bytes, letters: int
) -> None:
    bank.replace("*.ndjson", "*")
    applied(bank)
    put_good(bank, "a", 0)
    put(bank, name, content)
    put_good(bank, "c", 100)
    assert bank("stream", "--once").code == 0
    listed = bank("dead-letters", "list", "--json")
    assert len(json.loads(listed.stdout or "[]")) == letters
    assert_holds(bank, 200)


@pytest.mark.parametrize("folder", ["reg", "on", "off"])
def test_a_read_only_store_is_said_and_loses_nothing(
    bank: Bank, disk: Callable[[str, str], None], folder: str
) -> None:
    disk(folder, "size=20m")
    applied(bank)
    put_good(bank, "a", 0)
    assert bank("stream", "--once").code == 0
    disk(folder, "ro")
    put_good(bank, "b", 100)
    assert_explained(bank("stream", "--once"), 4, str(bank.root / folder))
    disk(folder, "rw")
    assert bank("stream", "--once").code == 0
    assert_holds(bank, 200)


@pytest.mark.parametrize("folder", ["on", "off"])
def test_a_full_disk_ends_once_and_loses_nothing(
    bank: Bank, disk: Callable[[str, str], None], folder: str
) -> None:
    """Though the other store goes on working, and every round with it until the commit."""
    disk(folder, "size=20m")
    applied(bank)
    put_good(bank, "a", 0)
    assert bank("stream", "--once").code == 0
    filler = bank.root / folder / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    bank.root.joinpath("data/payments").mkdir(exist_ok=True)
    lines = [payment(n, card_id=f"c{n}" if n % 2 else "c") for n in range(100, 4_100)]
    put(bank, "b.ndjson", "\n".join(lines).encode())
    assert_explained(bank("stream", "--once"), 4, "full" if folder == "on" else "No space left on device")
    filler.unlink()
    done = bank("stream", "--once", "--json")
    (source,) = json.loads(done.stdout)["sources"]
    assert (done.code, source["accepted"] + source["replayed"]) == (0, 4_000), "the log may have been ahead"
    assert json.loads(bank("status", "--json").stdout)["sources"][0]["events"] == 4_100
    assert bank("check-skew").code == 0


class StopAfter:
    """A stop that is set once the stream has waited so often."""

    def __init__(self, waits: int, then: Callable[[], None] = lambda: None) -> None:
        self.left, self.then = waits, then

    def is_set(self) -> bool:
        return self.left <= 0

    def wait(self, timeout: float) -> bool:
        assert timeout > 0
        self.left -= 1
        self.then()
        return self.is_set()


def test_a_followed_stream_says_once_what_it_waits_for_and_goes_on(
    bank: Bank, disk: Callable[[str, str], None]
) -> None:
    disk("off", "size=20m")
    applied(bank)
    put_good(bank, "a", 0)
    disk("off", "ro")
    told: list[str] = []
    stop = StopAfter(6, lambda: disk("off", "rw") if stop.left == 2 else None)
    project = open_project(bank.root, None, {}, system_clock)
    report = run(project, once=False, stop=stop, away=lambda err: told.append(err.what))
    project.online.close()
    assert len(told) == 1
    assert "Read-only file system" in told[0]
    assert report.read == 100  # though it was decided several times
    assert_holds(bank, 100)


def streamed(bank: Bank) -> Bank:
    put_good(applied(bank), "b", 0)
    put_good(bank, "c", 100)
    assert bank("stream", "--once").code == 0
    return bank


@pytest.mark.parametrize("also", ["nothing else", "the online store"])
def test_without_its_manifest_no_new_file_takes_an_old_ones_place(bank: Bank, also: str) -> None:
    """The registry is deleted, and a file comes that is first by name: it would get the offsets of another."""
    streamed(bank)
    (bank.root / "reg" / "registry.db").unlink()
    if also == "the online store":
        (bank.root / "on" / "online.db").unlink()
    put_good(applied(bank), "a", 200)
    for _ in range(2):
        assert_explained(bank("stream", "--once"), 1, "does not list", "put that registry back")


def test_a_registry_in_a_file_of_something_else_is_refused(bank: Bank) -> None:
    (bank.root / "reg").mkdir()
    with sqlite3.connect(bank.root / "reg" / "registry.db") as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    assert_explained(bank("apply", "-y"), 4, "something else", "registry:")


@pytest.mark.parametrize("damage", ["gone", "garbage", "flipped"])
def test_a_damaged_file_of_the_log_is_said_in_a_line_or_two(bank: Bank, damage: str) -> None:
    streamed(bank)
    file = next((bank.root / "off" / "log" / "payments").glob("_day=*/*.parquet"))
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        footer = int.from_bytes(whole[-8:-4], "little") + 8
        flipped = bytes(byte ^ 77 for byte in whole[4:-footer])
        file.write_bytes(b"garbage" * 50 if damage == "garbage" else whole[:4] + flipped + whole[-footer:])
    done = bank("check-skew")
    assert_explained(done, 4, "gone or damaged")
    file.write_bytes(whole)
    assert_holds(bank, 200)


def test_a_damaged_delta_log_is_said_in_one_line(bank: Bank) -> None:
    commits = streamed(bank).root / "off" / "log" / "payments" / "_delta_log"
    max(commits.glob("*.json")).write_text("{garbage")
    done = bank("status")
    assert_explained(done, 4, "the offline store does not answer")
    assert "<unknown>" not in done.stderr


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1000, None], ids=["empty", "garbage", "gone"])
def test_the_online_store_is_built_again_from_the_log(bank: Bank, damage: bytes | None) -> None:
    path = streamed(bank).root / "on" / "online.db"
    for part in path.parent.glob("online.db*"):
        part.unlink()
    if damage is not None:
        path.write_bytes(damage)
    if damage:
        assert_explained(bank("stream", "--once"), 4, "move the file away")
        path.unlink()
    assert bank("stream", "--once").code == 0
    assert_holds(bank, 200)


def test_a_lost_log_is_filled_again_from_the_files(bank: Bank) -> None:
    log = streamed(bank).root / "off"
    log.rename(bank.root / "away")
    assert bank("stream", "--once").code == 0
    assert_holds(bank, 200)


def test_labels_are_never_overwritten_by_the_dataset(bank: Bank) -> None:
    labels = streamed(bank).root / "labels.csv"
    labels.write_text("card_id,timestamp\nc,2026-01-01T00:00:01Z\n")
    done = bank("build-dataset", "--labels", "labels.csv", "--service", "fraud", "--output", "./labels.csv")
    assert_explained(done, 2, "overwritten")
    assert labels.read_text().startswith("card_id,timestamp\nc,")


def test_a_percent_escape_in_the_path_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """delta-rs takes paths for URLs here and there: what is written there could not be read again."""
    bank = Bank(tmp_path / "a%20b")
    assert_explained(bank("apply", "-y"), 4, "%20", "rename")
    assert not list(bank.root.rglob("_delta_log"))


@pytest.mark.parametrize("name", ["with a space", "ünï ✓", "a#b", "[ab]", "what?", "100%"])
def test_any_other_path_will_do(tmp_path: Path, name: str) -> None:
    assert_holds(streamed(Bank(tmp_path / name)), 200)


def test_it_runs_where_nobody_listens(bank: Bank) -> None:
    """A daemon's stdout and stderr may be closed, not only redirected."""
    put_good(applied(bank), "a", 0)
    command = [
        sys.executable,
        "-c",
        "from featureflow_cli.cli.main import main; main()",
        "-c",
        str(bank.root),
    ]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command, "stream", "--once"],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        check=False,
    )
    assert done.returncode == 0
    assert_holds(bank, 100)
