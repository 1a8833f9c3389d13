"""Populations of ranks, read from a store whose clock goes on."""

from pathlib import Path

from featureflow_cli.compute.codec import encode
from featureflow_cli.compute.events import from_projection
from featureflow_cli.compute.state import lift
from featureflow_cli.evaluate.keeping import ends_at, expires_us, new_versions
from featureflow_cli.evaluate.populations import Populations
from featureflow_cli.online.sqlite import SqliteStore
from featureflow_cli.online.store import Writes, version_words
from featureflow_cli.times import HOUR_US, MINUTE_US, parse_timestamp
from tests.laws.tables import projected
from tests.laws.written import SCHEMA, compiled, written_as

NOON_US = parse_timestamp("2026-01-01T12:00:00Z")


def test_a_member_outlives_the_grid_point_that_it_counts_at_and_whole_populations_are_published(
    tmp_path: Path,
):
    #  11:00:01   12:00            12:59
    #     e        g  [11:00, 12:00)  read: e is still of the population, though its ttl of 1h is over
    rank = {"name": "rank", "rank": {"of": "ranked", "method": "share_of_max"}, "refresh": "1h"}
    features = [{"name": "ranked", "count": "*", "window": "1h"}, rank]
    written = written_as([{"name": "v", "source": "s", "entity": "user", "features": features}])
    view = compiled(written).views["v"]
    event = dict.fromkeys(SCHEMA) | {"uid": 1, "ts": NOON_US - HOUR_US + 1_000_000}
    events, ids = from_projection(view, projected(view, [event]))
    states = lift(view, events, 1)
    expiry = expires_us(view, states.newest_us, event["ts"])

    now_us = NOON_US + 59 * MINUTE_US
    store = SqliteStore(tmp_path / "online.db", "laws", clock=lambda: now_us)
    none = version_words([None])
    blobs = encode(view, states, ends_at(1, {}))
    store.write("user", ["f"], Writes(ids, none, new_versions(1), (blobs,), (states.newest_us,), expiry))
    found = Populations(store, view, "f", now_us)(view.features[1], NOON_US)
    assert found.values.tolist() == [1.0]
    assert store.population("f", "rank", NOON_US) is None, "a state without a marker may not be whole"
    store.mark(0, "f", {})
    Populations(store, view, "f", now_us)(view.features[1], NOON_US)
    assert store.population("f", "rank", NOON_US) == found.encode()
    store.close()
