"""What a worker remembers of its states: in no more memory than it may, by what Python really takes."""

import secrets
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from featureflow_cli.online.sqlite import SqliteStore
from featureflow_cli.online.store import Held
from featureflow_cli.stream.resident import Resident

LIMIT_BYTES = 4 * 2**20


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "online.db", "shop")
    yield store
    store.close()


def hashes(ids: Sequence[int], blob_bytes: int) -> dict[str, Held]:
    return {str(id): Held(secrets.token_bytes(8), (secrets.token_bytes(blob_bytes), None)) for id in ids}


def known(resident: Resident, store: SqliteStore, ids: Sequence[int]) -> list[bool]:
    return [held.version is not None for held in resident.fetch(store, list(map(str, ids)))]


@pytest.mark.parametrize("blob_bytes", [30, 700, 20_000])
def test_what_is_remembered_takes_no_more_memory_than_it_may(blob_bytes: int) -> None:
    resident = Resident("user", ("a", "b"), LIMIT_BYTES)
    many = LIMIT_BYTES // (blob_bytes + 300) * 2
    taken = []
    tracemalloc.start()
    try:
        for turn in range(60):  # each hash is written twice, with others in between
            first = turn * many // 20
            resident.remember(hashes(range(first, first + many // 10), blob_bytes))
            taken.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(taken) < 1.15 * LIMIT_BYTES  # what comes at once is a fifth of it
    assert max(taken) > 0.7 * LIMIT_BYTES


def test_a_hash_that_is_written_again_and_again_counts_once(empty: SqliteStore) -> None:
    resident = Resident("user", ("a", "b"), LIMIT_BYTES)
    resident.remember(hashes(range(500), 1_000))
    for _ in range(10_000):
        resident.remember(hashes([0], 1_000))
    assert all(known(resident, empty, range(500)))


def test_what_was_not_written_for_longest_goes_first(empty: SqliteStore) -> None:
    resident = Resident("user", ("a", "b"), LIMIT_BYTES)
    for first in range(0, 10_000, 100):
        resident.remember(hashes(range(first, first + 100), 1_000))
        resident.remember(hashes(range(100), 1_000))
    assert all(known(resident, empty, range(100)))
    assert not any(known(resident, empty, range(100, 5_000)))
    assert all(known(resident, empty, range(9_000, 10_000)))


def test_what_is_forgotten_is_read_again_and_makes_room(empty: SqliteStore) -> None:
    resident = Resident("user", ("a", "b"), LIMIT_BYTES)
    resident.remember(hashes(range(500), 1_000))
    for turn in range(1, 100):
        ids = range(1_000 * turn, 1_000 * turn + 500)
        resident.remember(hashes(ids, 1_000))
        resident.forget(list(map(str, ids)))
        assert not any(known(resident, empty, ids))
    assert all(known(resident, empty, range(500)))


def test_hashes_are_counted_by_the_last_ones() -> None:
    resident = Resident("user", ("a", "b"), LIMIT_BYTES)
    resident.remember(hashes(range(10), 100))
    small = resident.count_in(1_000_000)
    resident.remember(hashes(range(10), 100_000))
    assert small > 1_000 and resident.count_in(1_000_000) == 9
    assert resident.count_in(1) == 1
