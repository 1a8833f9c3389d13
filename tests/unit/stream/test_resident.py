"""What a worker remembers of its states: all that it was told, in no more memory than it may, as really taken."""

import secrets
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute import codec, state
from featureflow_cli.compute.packed import none, packed
from featureflow_cli.errors import FeatureflowError
from featureflow_cli.evaluate.keeping import Kept, ends_at, new_versions
from featureflow_cli.online.sqlite import SqliteStore
from featureflow_cli.online.store import FOREVER_US, Held, Writes, version_words
from featureflow_cli.plan.applied import Build
from featureflow_cli.stream import arena, resident
from featureflow_cli.stream.arena import Arena
from featureflow_cli.stream.resident import Resident
from tests.hashes import Write, together
from tests.laws.written import compiled, written_as

LIMIT_BYTES = 4 * 2**20


def members() -> list[Kept]:
    views = [
        {
            "name": name,
            "source": "s",
            "entity": "user",
            "features": [{"name": "f", "count": "*", "window": "1h"}],
        }
        for name in ("a", "b")
    ]
    repo = compiled(written_as(views))
    return [
        Kept(view, Build(number, view.name, "user", view.fingerprint, 1, "serving", {}, 0))
        for number, view in enumerate(repo.views.values())
    ]


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "online.db", "shop")
    yield store
    store.close()


def told(some: Resident, store: SqliteStore, ids: Sequence[int], blob_bytes: int) -> None:
    """Let it know that the store took a blob of each, of that size."""
    rows = some.fetch(store, list(map(str, ids)))
    blobs = packed([secrets.token_bytes(blob_bytes) for _ in ids])
    some.remember(rows, new_versions(len(rows)), (blobs, none(len(rows))))


def known(some: Resident, store: SqliteStore, ids: Sequence[int]) -> list[bool]:
    return [version != 0 for version in some.versions(some.fetch(store, list(map(str, ids)))).tolist()]


@pytest.mark.parametrize("blob_bytes", [30, 700, 20_000])
def test_what_is_remembered_takes_no_more_memory_than_it_may(empty: SqliteStore, blob_bytes: int) -> None:
    some = Resident(members(), LIMIT_BYTES)
    many = LIMIT_BYTES // (blob_bytes + 300) * 2
    told(some, empty, range(-1, 0), blob_bytes)
    taken = []
    tracemalloc.start()
    try:
        for turn in range(60):  # each hash is written twice, with others in between
            first = turn * many // 20
            told(some, empty, range(first, first + many // 10), blob_bytes)
            taken.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(taken) < 1.25 * LIMIT_BYTES  # what comes at once is a fifth of it
    assert max(taken) > 0.7 * LIMIT_BYTES
    assert max(taken[30:]) < 1.1 * max(taken[:30])


def test_a_few_hashes_written_again_and_again_take_little_memory(empty: SqliteStore) -> None:
    some = Resident(members(), 100 * LIMIT_BYTES)
    tracemalloc.start()
    try:
        for _ in range(1_000):
            told(some, empty, range(100), 1_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20  # of 100 MB that were written


def test_a_hash_that_is_written_again_and_again_counts_once(empty: SqliteStore) -> None:
    some = Resident(members(), LIMIT_BYTES)
    told(some, empty, range(500), 1_000)
    for _ in range(10_000):
        told(some, empty, [0], 1_000)
    assert all(known(some, empty, range(500)))


def test_what_was_not_written_for_longest_goes_first(empty: SqliteStore) -> None:
    some = Resident(members(), LIMIT_BYTES)
    for first in range(0, 10_000, 100):
        told(some, empty, range(first, first + 100), 1_000)
        told(some, empty, range(100), 1_000)
    assert all(known(some, empty, range(100)))
    assert not any(known(some, empty, range(100, 5_000)))
    some = Resident(members(), LIMIT_BYTES)
    for first in range(0, 10_000, 100):
        told(some, empty, range(first, first + 100), 1_000)
    assert all(known(some, empty, range(9_000, 10_000)))


def test_what_is_forgotten_is_read_again_and_makes_room(empty: SqliteStore) -> None:
    some = Resident(members(), LIMIT_BYTES)
    told(some, empty, range(500), 1_000)
    for turn in range(1, 100):
        ids = range(1_000 * turn, 1_000 * turn + 500)
        told(some, empty, ids, 1_000)
        some.forget(some.fetch(empty, list(map(str, ids))))
        assert not any(known(some, empty, ids))
        told(some, empty, range(500), 1_000)
    assert all(known(some, empty, range(500)))


class Counted(SqliteStore):
    """Counts the hashes that are read."""

    reads = 0

    def read(self, entity: str, ids: Sequence[str], fields: Sequence[str]) -> list[Held]:
        self.reads += len(ids)
        return super().read(entity, ids, fields)


def is_taken(some: Resident, store: SqliteStore) -> bool:
    """A write of hash 1, as a batch makes it; who is refused forgets the hash."""
    rows = some.fetch(store, ["1"])
    expected, fresh = some.versions(rows), new_versions(1)
    blobs = tuple(
        codec.encode(kept.view, state.empty(kept.view, 1), ends_at(1, {0: 1})) for kept in members()
    )
    newest = (np.zeros(1, np.int64),) * 2
    writes = Writes(["1"], expected, fresh, blobs, newest, np.array([FOREVER_US]))
    taken = bool(store.write("user", some.fields, writes).all())
    if taken:
        some.remember(rows, fresh, blobs)
    else:
        some.forget(rows)
    return taken


def test_a_hash_that_others_write_too_is_read_for_every_batch_until_they_stop(tmp_path: Path) -> None:
    store = Counted(tmp_path / "online.db", "shop")
    mine, theirs = Resident(members(), LIMIT_BYTES), Resident(members(), LIMIT_BYTES)
    assert is_taken(mine, store) and is_taken(theirs, store)
    assert not is_taken(mine, store) and is_taken(mine, store)
    for _ in range(5):  # one after the other, and nobody is refused
        assert is_taken(theirs, store) or is_taken(theirs, store)
        before = store.reads
        assert is_taken(mine, store) and store.reads == before + 1
    assert is_taken(mine, store)  # it finds what it wrote itself
    before = store.reads
    assert is_taken(mine, store) and is_taken(mine, store) and store.reads == before
    store.close()


def test_hashes_are_counted_by_the_last_ones(empty: SqliteStore) -> None:
    some = Resident(members(), LIMIT_BYTES)
    told(some, empty, range(10), 100)
    small = some.count_in(1_000_000)
    told(some, empty, range(10), 100_000)
    assert small > 1_000 and some.count_in(1_000_000) == 9
    assert some.count_in(1) == 1


def test_a_state_that_is_not_ours_is_not_remembered(empty: SqliteStore) -> None:
    """Though its view has no events in that batch: later ones are merged without another look."""
    kept = members()
    fields = [each.field for each in kept]
    blobs = codec.encode(kept[0].view, state.empty(kept[0].view, 1), ends_at(1, {0: 1}))
    damaged = bytes([1]) + blobs[0].as_py()[1:]
    empty.write(
        "user", fields, together(Write("1", None, b"12345678", (blobs[0].as_py(), damaged), (0, 0), None))
    )
    some = Resident(kept, LIMIT_BYTES)
    for _ in range(2):
        with pytest.raises(FeatureflowError, match="view 'b' is damaged"):
            some.fetch(empty, ["1"])


@dataclass
class Told:
    """A store that holds nothing, and a plain model of what a resident was told beside it."""

    some: Resident
    model: dict[str, list[object]] = field(default_factory=dict)
    reads: int = 0

    def read(self, _: str, ids: Sequence[str], fields: Sequence[str]) -> list[Held]:
        self.reads += len(ids)
        for id in ids:
            self.model[id] = [0, None, None]
        return [Held(None, (None,) * len(fields)) for _ in ids]

    def step(self, chance: Random) -> None:
        ids = [str(number) for number in chance.sample(range(60), chance.randrange(1, 30))]
        rows = self.some.fetch(self, ids)  # type: ignore[arg-type]
        self.check(ids, rows)
        chosen = np.array(sorted(chance.sample(range(len(ids)), chance.randrange(len(ids) + 1))), np.int64)
        if chance.random() < 0.2:
            self.some.forget(rows[chosen])
            for place in chosen.tolist():
                del self.model[ids[place]]
            return
        versions = new_versions(len(chosen))
        columns = [
            [None if chance.random() < 0.3 else chance.randbytes(chance.randrange(200)) for _ in chosen]
            for _ in self.some.fields
        ]
        self.some.remember(rows[chosen], versions, tuple(map(packed, columns)))
        for place, version, *blobs in zip(chosen.tolist(), versions.tolist(), *columns, strict=True):
            held = self.model[ids[place]]
            fresh = [old if new is None else new for old, new in zip(held[1:], blobs, strict=True)]
            self.model[ids[place]] = [version, *fresh]
        self.check(ids, rows, gone=False)

    def check(self, ids: Sequence[str], rows: np.ndarray, gone: bool = True) -> None:
        columns = [self.some.blobs(column, rows).to_pylist() for column in range(len(self.some.fields))]
        found = list(map(list, zip(self.some.versions(rows).tolist(), *columns, strict=True)))
        assert found == [self.model[id] for id in ids]


@given(st.integers(0, 2**32), st.sampled_from([2_000, 20_000, 2**30]), st.sampled_from([0, 500, 2**20]))
def test_it_says_what_it_was_told(seed: int, limit_bytes: int, slack_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resident, "_SLACK_BYTES", slack_bytes)
        patch.setattr(arena, "_MOVED_BYTES", 300)
        each = Told(Resident(members(), limit_bytes))
        chance = Random(seed)
        for _ in range(30):
            each.step(chance)
    if limit_bytes == 2**30:
        assert each.reads <= 60 + 30 * 30 * 0.5


@given(st.lists(st.lists(st.binary(max_size=40), max_size=5), max_size=8), st.randoms(use_true_random=False))
def test_an_arena_keeps_what_it_is_to_keep(batches: list[list[bytes]], chance: Random) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arena, "_MOVED_BYTES", 30)
        held, model = Arena(), dict[int, bytes]()
        for batch in batches:
            slots = held.append(packed(batch))
            model |= dict(zip(slots.tolist(), batch, strict=True))
            kept = [slot for slot in model if chance.random() < 0.7]
            moved = held.keep(np.array(kept, np.int64))
            model = {int(moved[slot]): model[slot] for slot in kept}
            slots = np.array([*model, -1], np.int64)
            chance.shuffle(slots)
            found = held.take(slots).to_pylist()
            assert found == [model.get(slot) for slot in slots.tolist()]
            assert held.sizes(slots).tolist() == [len(blob or b"") for blob in found]
            assert len(held._octets) == sum(map(len, model.values()))


def test_versions_are_words_in_the_order_of_their_bytes() -> None:
    assert version_words([b"\1" + bytes(7), None]).tolist() == [1, 0]
