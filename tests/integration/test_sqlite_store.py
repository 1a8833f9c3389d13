"""What is SQLite's own: the file's fate, and an error for each that says what to do."""

import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.online.sqlite import SqliteStore
from tests.hashes import Write, together


def _write(store: SqliteStore, id: str, blob: bytes) -> bool:
    wrote = Write(id, None, b"12345678", (blob,), (0,), None)
    return bool(store.write("user", ["f.1"], together(wrote))[0])


def test_a_hash_is_there_until_the_microsecond_it_expires(tmp_path: Path) -> None:
    now_us = 1_999
    store = SqliteStore(tmp_path / "online.db", "shop", clock=lambda: now_us)
    store.write("user", ["f.1"], together(Write("1", None, b"12345678", (b"a",), (0,), 2_000)))
    assert store.read("user", ["1"], ["f.1"])[0].blobs == (b"a",)
    now_us = 2_000
    assert store.read("user", ["1"], ["f.1"])[0].version is None
    store.close()


def test_what_expired_is_purged_by_later_writes(tmp_path: Path) -> None:
    now_us = 1_000
    store = SqliteStore(tmp_path / "online.db", "shop", clock=lambda: now_us)
    short = [Write(str(n), None, b"12345678", (b"a" * 100,), (0,), 2_000) for n in range(3_000)]
    store.write("user", ["f.1"], together(*short))
    now_us = 5_000
    for number in range(8):
        _write(store, f"new{number}", b"b")
    assert store.bytes_held() < 100
    store.close()


def test_a_file_removed_while_in_use_is_noticed_once_and_then_made_anew(tmp_path: Path) -> None:
    """A writer must learn of the loss: what it wrote to the removed file nobody will read."""
    path = tmp_path / "online.db"
    store = SqliteStore(path, "shop")
    _write(store, "1", b"a")
    store.mark(0, "f.1", {0: 1})
    for left in tmp_path.iterdir():
        left.unlink()
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        store.ping()
    assert store.marker(0, "f.1") is None
    assert store.read("user", ["1"], ["f.1"])[0].version is None
    store.close()


def test_a_reader_makes_no_file_and_finds_the_one_that_is_put_back(tmp_path: Path) -> None:
    """Copied over an empty one of the reader's own, it would be read with that one's log."""
    path, away = tmp_path / "online.db", tmp_path / "away.db"
    writer, reader = SqliteStore(path, "shop"), SqliteStore(path, "shop")
    assert reader.marker(0, "f.1") is None
    assert not list(tmp_path.iterdir())
    _write(writer, "1", b"a")
    writer.mark(0, "f.1", {0: 1})
    assert reader.marker(0, "f.1") == {0: 1}
    writer.close()
    reader.close()
    assert reader.read("user", ["1"], ["f.1"])[0].blobs == (b"a",)
    path.rename(away)
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        reader.ping()
    reader.ping()
    assert reader.read("user", ["1"], ["f.1"])[0].blobs == (None,)
    assert not path.exists()
    shutil.copyfile(away, path)
    assert reader.read("user", ["1"], ["f.1"])[0].blobs == (b"a",)
    assert _write(writer, "2", b"b")
    assert reader.read("user", ["2"], ["f.1"])[0].blobs == (b"b",)
    reader.close()
    writer.close()


def test_a_file_that_nobody_can_write_is_read(mounted: Path) -> None:
    """On a read-only mount, whether its writer ended in order or left a log behind."""
    path, left = mounted / "online.db", mounted / "left"
    writer = SqliteStore(path, "shop")
    _write(writer, "1", b"a")
    left.mkdir()
    for file in (path, path.with_name("online.db-wal"), path.with_name("online.db-shm")):
        shutil.copyfile(file, left / file.name)
    writer.close()
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    for each in (path, left / "online.db"):
        reader = SqliteStore(each, "shop")
        assert reader.read("user", ["1"], ["f.1"])[0].blobs == (b"a",)
        with pytest.raises(StoreUnavailable, match=r"folder is writable|read-only"):
            _write(reader, "2", b"b")
        reader.close()


def test_a_file_that_is_written_elsewhere_meanwhile_is_read_anew(mounted: Path, tmp_path: Path) -> None:
    """The same folder, mounted read-only here and writable there: what one sees without locks is checked."""
    view = tmp_path / "view"
    view.mkdir()
    _write(writer := SqliteStore(mounted / "online.db", "shop"), "1", b"a")
    writer.close()
    subprocess.run(["mount", "--bind", str(mounted), str(view)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(view)], check=True)
        reader = SqliteStore(view / "online.db", "shop")
        for number in range(2, 5):
            assert reader.read("user", ["1"], ["f.1"])[0].blobs == (b"a",)
            _write(writer, str(number), b"b")
            assert reader.read("user", [str(number)], ["f.1"])[0].blobs == (b"b",)
            writer.close()
            assert reader.read("user", [str(number)], ["f.1"])[0].blobs == (b"b",)
        reader.close()
        _write(writer, "8", b"b")
        writer.close()  # the last one takes the log away
        assert reader.read("user", ["8"], ["f.1"])[0].blobs == (b"b",)
        with pytest.raises(StoreUnavailable, match="written while it was read"), reader._file.connected():
            _write(writer, "9", b"c")
        writer.close()
        reader.close()
    finally:
        subprocess.run(["umount", "--lazy", str(view)], check=True)


def test_a_leftover_wal_does_not_bring_the_dead_back(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    store = SqliteStore(path, "shop")
    _write(store, "1", b"a")
    path.unlink()
    other = SqliteStore(path, "shop")
    assert other.read("user", ["1"], ["f.1"])[0].version is None
    store.close()
    other.close()


def test_a_full_disk_says_so_and_leaves_what_was_there(tmp_path: Path) -> None:
    """SQLite's own page limit raises the very error of a full disk."""
    store = SqliteStore(tmp_path / "online.db", "shop")
    _write(store, "1", b"a")
    with store._file.connected() as connection:
        connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StoreUnavailable, match="disk of the online store is full") as raised:
        _write(store, "2", bytes(200_000))
    assert raised.value.exit_code == 4
    assert store.read("user", ["1", "2"], ["f.1"])[0].blobs == (b"a",)
    assert store.read("user", ["1", "2"], ["f.1"])[1].version is None
    store.close()


def test_a_read_only_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "online.db", "shop")
    _write(store, "1", b"a")
    with store._file.connected() as connection:
        connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable, match="read-only"):
        _write(store, "2", b"a")
    store.close()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"these are not the pages you look for" * 200, "not an SQLite file", id="rubbish"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 5_000, "online store", id="broken header"),
    ],
)
def test_a_file_that_is_not_sqlite_says_so(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "online.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=message) as raised:
        SqliteStore(path, "shop").ping()
    assert str(path) in str(raised.value)


def test_damaged_pages_say_how_to_rebuild(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    store = SqliteStore(path, "shop")
    store.write(
        "user",
        ["f.1"],
        together(*(Write(str(n), None, b"12345678", (bytes(300),), (0,), None) for n in range(1_000))),
    )
    store.close()
    with path.open("r+b") as file:
        file.seek(3 * 4_096)
        file.write(b"\xff" * (path.stat().st_size - 3 * 4_096))
    with pytest.raises(StoreUnavailable, match="damaged") as raised:
        SqliteStore(path, "shop").read("user", [str(n) for n in range(1_000)], ["f.1"])
    assert "rebuilt" in raised.value.hint


def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (id)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreUnavailable, match="not an online store"):
        SqliteStore(path, "shop").ping()


def test_a_folder_in_the_way_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="folder"):
        _write(SqliteStore(tmp_path / "file" / "online.db", "shop"), "1", b"a")
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        SqliteStore(tmp_path, "shop").ping()


def test_a_writer_that_waits_too_long_says_so(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    store, impatient = SqliteStore(path, "shop"), SqliteStore(path, "shop", timeout_s=0.05)
    with store._file.transaction(), pytest.raises(StoreUnavailable, match="too long"):
        _write(impatient, "1", b"a")
    assert _write(impatient, "1", b"a")
    store.close()
    impatient.close()


def test_threads_read_while_another_writes(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "online.db", "shop")
    seen: list[bytes | None] = []
    with store._file.transaction() as connection:
        connection.execute("CREATE TABLE `shop/user` (id TEXT PRIMARY KEY, version BLOB, expires_us INTEGER)")
        reader = threading.Thread(target=lambda: seen.append(store.read("user", ["1"], ["f.1"])[0].version))
        reader.start()
        reader.join(10)
    assert seen == [None]
    store.close()
