"""What a drained stream holds online is what the reference says of the log's events, at any later moment."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from featureflow_cli.compute.codec import decode
from featureflow_cli.compute.packed import packed
from featureflow_cli.compute.reading import read
from featureflow_cli.evaluate.log import accepted
from featureflow_cli.evaluate.populations import Populations
from featureflow_cli.stream import merging
from featureflow_cli.times import DAY_US, HOUR_US
from tests.integration.stream.world import Topic, World, compiled, drain, fill
from tests.laws.answers import assert_rows
from tests.laws.tables import plain


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, Topic([-1, 0]), compiled(tmp_path))
    yield made
    made.close()


@pytest.mark.parametrize(("seed", "turn_bytes"), [(21, merging.TURN_BYTES), (22, 1), (23, 10_000)])
def test_a_drained_stream_answers_as_the_reference(
    world: World, seed: int, turn_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many hashes are merged at a time."""
    monkeypatch.setattr(merging, "TURN_BYTES", turn_bytes)
    chance = Random(seed)
    worker = world.worker()
    for _ in range(6):
        fill(world, chance, 60, step=lambda: chance.randrange(20 * 60_000_000))
        drain(worker, rows=chance.randrange(5, 60))
    relation = accepted(world.engine, world.source, world.log().snapshot())
    rows = world.engine.table(f"SELECT * FROM {relation}")
    columns = {
        name: plain(rows.column(name).combine_chunks(), kind) for name, kind in world.source.columns.items()
    }
    events = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    newest_us = max(event["at"] for event in events)
    store = world.store()
    for kept in worker.members:
        key = kept.view.join_keys[0].column
        keys = sorted({event[key] for event in events if event[key] is not None})
        ids = [str(one).replace(",", "%2C").replace("ü", "%C3%BC") for one in keys]
        blobs = [held.blobs[0] for held in store.read(kept.view.entity, ids, [kept.field])]
        states, _ = decode(kept.view, packed(blobs))
        for t_us in (newest_us + 1, newest_us + HOUR_US + 7, newest_us + DAY_US, newest_us + 3 * DAY_US):
            moments = np.full(len(keys), t_us, np.int64)
            populations = Populations(store, kept.view, kept.field, t_us)
            assert_rows(
                kept.view,
                events,
                [((one,), t_us) for one in keys],
                read(kept.view, states, moments, populations),
            )
