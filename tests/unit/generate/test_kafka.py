"""Where generated events go, when they happen, and that they are those of files."""

import threading
from collections.abc import Sequence

import numpy as np
import orjson
import pytest

from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.compute.views import Repo
from featureflow_cli.errors import UsageError
from featureflow_cli.generate.files import events_table
from featureflow_cli.generate.kafka import Sent, choose, generate, live_times, natural_key
from featureflow_cli.generate.shop import Scale, deliveries, simulate
from featureflow_cli.spec.models import Definitions, StoreConfig

SCALE = Scale(events=300, users=20, items=5, span_us=3_600_000_000, end_us=1_767_225_600_000_000)


class Received:
    """A sender (`generate.kafka.Sender`) that keeps what it is given."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.keys: list[bytes | None] = []

    def send(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> None:
        self.values += values
        self.keys += keys or [None] * len(values)

    def flush(self) -> None:
        pass


def send(to: Received, *, rate: float | None = None, live: bool = False, key: str | None = "item_id") -> Sent:
    stop = threading.Event()
    return generate(
        SCALE,
        to,
        key=key,
        rate=rate,
        live=live,
        clock=lambda: 5_000_000_000,
        stop=stop,
        show=lambda sent, _: stop.set() if rate is not None and sent >= 10 else None,
    )


def repo(**sources: dict[str, object]) -> Repo:
    columns = {"user_id": "int64 not null", "item_id": "int64", "timestamp": "timestamp"}
    written = {
        "entities": [
            {"name": "pair", "join_keys": {"user_id": "int64", "item_id": "int64"}},
            {"name": "item", "join_keys": {"item": "int64"}},
            {"name": "user", "join_keys": {"user_id": "int64"}},
        ],
        "sources": [
            {
                "name": name,
                "schema": columns,
                "timestamp_field": "timestamp",
                "stream": {"kafka": {"topic": name}},
                **more,
            }
            for name, more in sources.items()
        ],
        "feature_views": [
            {
                "name": f"{name}_{entity}",
                "entity": entity,
                "source": name,
                "join_keys": {"item": "item_id"} if entity == "item" else {},
                "features": [{"name": "n", "count": "*", "window": "1h"}],
            }
            for name in sources
            for entity in ("user", "item")
        ],
    }
    return compile_repo(StoreConfig(project="p"), Definitions.model_validate(written))


def test_kafka_gets_the_deliveries_of_files_in_their_order():
    received = Received()
    made = send(received)
    order = deliveries(simulate(SCALE), SCALE)
    rows = events_table(simulate(SCALE), SCALE).take(order).to_pylist()
    assert (made.sent, made.repeated) == (len(order), len(order) - 300)
    for value, key, row in zip(received.values, received.keys, rows, strict=True):
        event = orjson.loads(value)
        assert event["event_id"] == row["event_id"]
        assert event["timestamp"] == row["timestamp"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert key == (None if row["item_id"] is None else str(row["item_id"]).encode())


def test_whoever_is_stopped_says_how_many_were_sent():
    received = Received()
    made = send(received, rate=100)
    assert 10 <= made.sent == len(received.values) < 300


def test_a_live_event_happens_in_its_first_turn_or_as_long_before_as_it_is_late():
    times = live_times(np.array([2, 0, 2, 1]), np.array([400_000, 90_000_000, 0]), 1_000_000_000, rate=2.0)
    assert times.tolist() == [1_000_500_000, 1_001_500_000 - 90_000_000, 1_000_000_000]


def test_the_key_is_that_of_the_first_entity_with_views_of_the_source():
    """A pair has no single one; the entity may call it otherwise than the source."""
    found = repo(events={})
    assert natural_key(found, found.sources["events"]) == "item_id"


def test_of_several_sources_one_has_to_be_named():
    found = repo(a={}, b={})
    assert choose(["a", "b"], found, "b").name == "b"
    with pytest.raises(UsageError, match="--source a"):
        choose(["a", "b"], found, None)


def test_a_source_of_something_else_is_refused():
    schema = {"user_id": "int64", "item_id": "int64", "card": "string not null", "timestamp": "timestamp"}
    with pytest.raises(UsageError, match="have no 'card', which source 'a' needs"):
        choose(["a"], repo(a={"schema": schema}), None)
