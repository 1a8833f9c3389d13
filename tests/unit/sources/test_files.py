"""Files as a partition: what is listed, what an offset means, and what becomes of broken and changed files."""

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.errors import FeatureflowError, StoreUnavailable, UsageError
from featureflow_cli.plan.manifest import ListedFile
from featureflow_cli.sources import files, readers
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.decode import decode
from tests.unit.sources.sources import make_source, to_letters

SOURCE = make_source(
    {"user": "int64", "name": "string", "amount": "decimal(18,2)"},
    paths={"amount": ("metadata", "amount")},
    not_null=frozenset({"user"}),
)


def listed(root: Path, pattern: str = "*", manifest: tuple[ListedFile, ...] = ()) -> list[ListedFile]:
    """The manifest with what is new at moment 77, as the registry would append it."""
    new = files.look(root, pattern, manifest)
    first = len(manifest)
    return [
        *manifest,
        *(ListedFile(first + row, *file.__dict__.values(), 77) for row, file in enumerate(new)),
    ]


def rows_of(batches: list[RawBatch]) -> dict[int, tuple[Any, ...]]:
    """Rows by offset; each batch must begin where the one before ended."""
    found: dict[int, tuple[Any, ...]] = {}
    end = 0
    for batch in batches:
        assert (batch.offsets >= end).all()
        assert (batch.offsets < batch.end).all()
        end = batch.end
        for row in decode(batch, SOURCE).rows.to_pylist():
            *values, offset = row.values()
            found[offset] = tuple(values)
    return found


def letters_of(batches: list[RawBatch]) -> dict[int, str]:
    return {
        letter.offset: letter.detail
        for batch in batches
        for letter in to_letters(decode(batch, SOURCE).letters)
    }


def write_parquet(path: Path, count: int, group: int = 1000, first: int = 0) -> None:
    users = range(first, first + count)
    table = pa.table(
        {
            "user": pa.array(users, pa.int32()),
            "name": [f"n{user}" for user in users],
            "metadata": [{"amount": user / 4, "other": "x"} for user in users],
            "undeclared": ["y"] * count,
        }
    )
    pq.write_table(table, path, row_group_size=group)


def write_ndjson(path: Path, count: int) -> None:
    lines = [
        f'{{"user": {user}, "name": "n{user}", "metadata": {{"amount": {user / 4}}}}}'
        for user in range(count)
    ]
    path.write_text("\n".join(lines), "utf-8")


def write_csv(path: Path, count: int) -> None:
    lines = [f'{user},"n{user}",{user / 4}' for user in range(count)]
    path.write_text("\r\n".join(["user,name,metadata.amount", *lines, ""]), "utf-8")


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "parquet": write_parquet,
    "ndjson": write_ndjson,
    "csv": write_csv,
}


@pytest.mark.parametrize("ending", WRITERS)
def test_the_rows_of_a_file_have_its_offsets(tmp_path: Path, ending: str) -> None:
    """Base plus row number, in batches of any size, from any row on; wholly read, the end is the next file's base."""
    WRITERS[ending](tmp_path / f"a.{ending}", 2500)
    WRITERS[ending](tmp_path / f"b.{ending}", 1)
    manifest = listed(tmp_path)
    base = manifest[1].base_offset
    assert base == 1 << 40
    expected = {row: (row, f"n{row}", Decimal(row * 25) / 100) for row in range(2500)}
    expected[base] = (0, "n0", Decimal(0))
    for batch_rows in (700, 32_768):
        for start in (0, 1, 999, 1000, 2499, 2500, 5000, base):
            batches = list(files.read(tmp_path, manifest, SOURCE, start, batch_rows))
            assert rows_of(batches) == {offset: row for offset, row in expected.items() if offset >= start}
            assert max(len(batch.offsets) for batch in batches) <= batch_rows
            assert batches[-1].end == manifest[1].end_offset
            assert {batch.recorded_at_us for batch in batches} == {77}
            assert letters_of(batches) == {}
    assert list(files.read(tmp_path, manifest, SOURCE, manifest[1].end_offset)) == []


@pytest.mark.parametrize("ending", WRITERS)
def test_a_file_without_rows_moves_the_end(tmp_path: Path, ending: str) -> None:
    WRITERS[ending](tmp_path / f"a.{ending}", 0)
    (batch,) = files.read(tmp_path, listed(tmp_path), SOURCE)
    assert (batch.offsets.size, batch.end) == (0, 1 << 40)
    assert decode(batch, SOURCE).rows.num_rows == 0


@pytest.mark.parametrize("ending", WRITERS)
def test_big_values_are_read_a_few_at_a_time(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "PIECE_BYTES", 100_000)
    monkeypatch.setattr(readers, "FIRST_ROWS", 2)
    big = "x" * 50_000
    if ending == "parquet":
        names = [big + str(row) for row in range(40)]
        pq.write_table(pa.table({"user": range(40), "name": names}), tmp_path / "a.parquet")
    elif ending == "ndjson":
        (tmp_path / "a.ndjson").write_text(
            "".join(f'{{"user": {row}, "name": "{big}{row}"}}\n' for row in range(40))
        )
    else:
        (tmp_path / "a.csv").write_text("user,name\n" + "".join(f"{row},{big}{row}\n" for row in range(40)))
    batches = list(files.read(tmp_path, listed(tmp_path), SOURCE))
    assert max(len(batch.offsets) for batch in batches) <= 3
    assert [row[0] for row in rows_of(batches).values()] == list(range(40))


# Listing


def test_files_are_listed_once_in_order_of_name(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.csv", "a.csv", "deep/c.ndjson", "deep/er/d.jsonl"):
        (tmp_path / name).write_text("")
    first = listed(tmp_path, "**/*")
    assert [file.path for file in first] == ["a.csv", "b.csv", "deep/c.ndjson", "deep/er/d.jsonl"]
    (tmp_path / "0.csv").write_text("user\n1\n")
    second = listed(tmp_path, "**/*", tuple(first))
    assert [(file.ordinal, file.path) for file in second[4:]] == [(4, "0.csv")]
    assert [file.path for file in listed(tmp_path, str(tmp_path / "*.csv"))] == [
        str(tmp_path / name) for name in ("0.csv", "a.csv", "b.csv")
    ]


def test_hidden_and_unfinished_files_are_none(tmp_path: Path) -> None:
    """Unless the pattern itself says so."""
    for folder in ("_delta_log", ".git", "_mine"):
        (tmp_path / folder).mkdir()
    for name in (".a.csv", "_a.csv", "a.csv.tmp", "_delta_log/a.csv", ".git/a.csv", "_mine/a.csv"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.csv").mkdir()
    assert listed(tmp_path, "**/*") == []
    assert [file.path for file in listed(tmp_path, "_mine/*.csv")] == ["_mine/a.csv"]


def test_an_ending_that_says_no_format_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UsageError, match=r"notes.txt: the ending says none of .parquet"):
        files.look(tmp_path, "*", ())
    with pytest.raises(UsageError, match="only local files"):
        files.look(tmp_path, "s3://bucket/*.parquet", ())


def test_a_listed_file_that_changes_is_an_error_and_a_touched_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user\n1\n")
    manifest = listed(tmp_path)
    os.utime(path, ns=(1, 1))
    assert files.look(tmp_path, "*", manifest) == []
    assert len(list(files.read(tmp_path, manifest, SOURCE))) == 1
    for content in ("user\n2\n", "user\n1\n2\n"):
        path.write_text(content)
        for act in (
            lambda: files.look(tmp_path, "*", manifest),
            lambda: list(files.read(tmp_path, manifest, SOURCE)),
        ):
            with pytest.raises(FeatureflowError, match=r"a.csv has changed since it was listed") as error:
                act()
            assert "new events go into a new file" in error.value.hint


def test_a_file_may_go_once_the_log_has_passed_it(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("user\n1\n")
    manifest = listed(tmp_path)
    (tmp_path / "a.csv").unlink()
    end = manifest[0].end_offset
    with pytest.raises(FeatureflowError, match=r"a.csv is gone"):
        files.look(tmp_path, "*", manifest, end - 1)
    with pytest.raises(FeatureflowError, match=r"a.csv is gone"):
        list(files.read(tmp_path, manifest, SOURCE, end - 1))
    assert files.look(tmp_path, "*", manifest, end) == []
    assert list(rows_of(list(files.read(tmp_path, manifest, SOURCE, end)))) == [end]


def test_what_the_disk_does_not_let_be_read_stops_the_stream(tmp_path: Path) -> None:
    """It is not passed over: mended, it is read. (A link to itself refuses also to root.)"""
    path = tmp_path / "a.csv"
    path.write_text("user\n1\n")
    manifest = listed(tmp_path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(StoreUnavailable, match=r"a.csv cannot be read"):
        list(files.read(tmp_path, manifest, SOURCE))


# Rubbish


def test_a_truncated_parquet_file_is_one_letter_and_the_next_one_follows(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_parquet(tmp_path / f"{name}.parquet", 10)
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-20])
    manifest = listed(tmp_path)
    batches = list(files.read(tmp_path, manifest, SOURCE))
    assert [batch.end for batch in batches] == [1 << 40, 2 << 40]
    assert len(rows_of(batches)) == 10
    ((offset, detail),) = letters_of(batches).items()
    assert offset == 0
    assert detail.startswith("a.parquet cannot be read (")
    assert detail.endswith("mend it and add it under a new name")


def test_rows_before_the_broken_place_do_not_depend_on_where_reading_begins(tmp_path: Path) -> None:
    """A replay repeats what was decided: the same rows, and the letter at the same offset."""
    path = tmp_path / "a.parquet"
    write_parquet(path, 3000, group=1000)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    raw = bytearray(path.read_bytes())
    raw[column.data_page_offset : column.data_page_offset + 40] = b"\xff" * 40
    path.write_bytes(raw)
    manifest = listed(tmp_path)
    for start in (0, 1, 500, 999):
        for batch_rows in (64, 10_000):
            batches = list(files.read(tmp_path, manifest, SOURCE, start, batch_rows))
            assert list(rows_of(batches)) == list(range(start, 1000))
            ((offset, detail),) = letters_of(batches).items()
            assert (offset, batches[-1].end) == (1000, 1 << 40)
            assert detail.startswith("a.parquet cannot be read past its first 1,000 rows (")


def test_lines_that_are_no_events_are_letters_at_their_own_line(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(
        b'\xef\xbb\xbf{"user": 0}\r\n\n  \t\n{"user": 3\n{"user": "\xff"}\nnull\n{"user": 6, "name": "\\u00fc"}'
    )
    batches = list(files.read(tmp_path, listed(tmp_path), SOURCE))
    assert rows_of(batches) == {0: (0, None, None), 6: (6, "ü", None)}
    assert set(letters_of(batches)) == {3, 4, 5}


def test_csv_as_shops_export_it(tmp_path: Path) -> None:
    """Quoted commas, quotes and line ends, CRLF, a byte order mark, empty fields and lines, odd lines."""
    (tmp_path / "a.csv").write_bytes(
        b"\xef\xbb\xbfname , user,more,metadata.amount\r\n"
        b'"a, ""b"",\r\nc",1,,-1.50\r\n'
        b"\r\n"
        b'"",2,"",\r\n'
        b"too,short\r\n"
        b'too,3,many,1,"x,y"\r\n'
        b"\xff,4,,\r\n"
        b"x,,,\r\n"
        b"\xc3\xbc,5,,1.555\r\n"
        b"\xc3\xbc,6, , 7 "
    )
    batches = list(files.read(tmp_path, listed(tmp_path), SOURCE))
    assert rows_of(batches) == {
        0: (1, 'a, "b",\r\nc', Decimal("-1.50")),
        1: (2, None, None),
        7: (6, "ü", Decimal("7.00")),
    }
    found = {
        letter.offset: letter for batch in batches for letter in to_letters(decode(batch, SOURCE).letters)
    }
    assert {offset: letter.reason.value for offset, letter in found.items()} == {
        2: "undecodable",
        3: "undecodable",
        4: "wrong_type",
        5: "null",
        6: "wrong_type",
    }
    assert found[2].payload == b"too,short"
    assert found[3].payload == b'too,3,many,1,"x,y"'
    assert found[3].detail == "the line has 5 fields, the header 4"
    assert b"\xff" in found[4].payload


@pytest.mark.parametrize("content", [b"user,user\n1,2\n", b"user,name,user\n1,,2\n"])
def test_a_column_that_stands_twice_makes_a_file_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["user", "user"])
    pq.write_table(table, tmp_path / "b.parquet")
    batches = list(files.read(tmp_path, listed(tmp_path), SOURCE))
    assert rows_of(batches) == {}
    assert {detail.split(" (")[1].split(")")[0] for detail in letters_of(batches).values()} == {
        "it has the column 'user' twice"
    }


def test_a_file_with_none_of_the_columns_has_a_letter_for_each_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x;y\n1;2\n3;4\n")
    pq.write_table(pa.table({"x": [1, 2, 3]}), tmp_path / "b.parquet")
    batches = list(files.read(tmp_path, listed(tmp_path), SOURCE))
    base = 1 << 40
    assert letters_of(batches) == dict.fromkeys([0, 1, base, base + 1, base + 2], "column 'user' is null")


fields = st.text(st.sampled_from('ab",\n\r ü\x00'), max_size=6)


@given(st.lists(st.tuples(st.integers(0, 9), fields), max_size=30), st.integers(1, 7))
def test_what_a_csv_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]], batch_rows: int
) -> None:
    root = tmp_path_factory.mktemp("csv")
    quoted = [f'{user},"{name.replace(chr(34), chr(34) * 2)}"' for user, name in rows]
    (root / "a.csv").write_bytes("\r\n".join(["user,name", *quoted]).encode())
    found = rows_of(list(files.read(root, listed(root), SOURCE, 0, batch_rows)))
    assert list(found.values()) == [(user, name or None, None) for user, name in rows]
    assert list(found) == list(range(len(rows)))


def test_random_bytes_are_letters_whatever_the_ending(tmp_path: Path) -> None:
    """Nothing raises, nothing is passed over without a word."""
    rng = np.random.default_rng(3)
    for number in range(20):
        for ending in ("parquet", "ndjson", "csv"):
            (tmp_path / f"{number:02}.{ending}").write_bytes(rng.bytes(int(rng.integers(1, 2000))))
    manifest = listed(tmp_path)
    batches = list(files.read(tmp_path, manifest, SOURCE))
    assert rows_of(batches) == {}
    assert batches[-1].end == manifest[-1].end_offset
    lettered = {offset >> 40 for offset in letters_of(batches)}
    assert {file.ordinal for file in manifest if not file.path.endswith("csv")} <= lettered
