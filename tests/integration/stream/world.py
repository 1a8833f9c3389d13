"""A small world for one worker or several: events in memory, a real store, log and engine in a folder."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute import codec, state
from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.compute.events import from_projection
from featureflow_cli.compute.packed import packed
from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.compute.views import Repo, Source
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate import log as evaluated
from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.offline.log import OfflineLog
from featureflow_cli.offline.snapshots import Snapshot
from featureflow_cli.online.sqlite import SqliteStore
from featureflow_cli.plan.applied import Build
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.spec.repo import load
from featureflow_cli.stream.outside import Outside
from featureflow_cli.stream.progress import Progress
from featureflow_cli.stream.worker import Worker
from featureflow_cli.times import DAY_US, HOUR_US, MINUTE_US, format_timestamp, parse_timestamp

STORE_YAML = """
version: 1
project: shop
registry: registry.db
online_store: {type: sqlite, path: online.db}
offline_store: {type: delta, path: offline}
"""
FEATURES_YAML = """
entities:
  - {name: user, join_keys: {user_id: int64}}
  - {name: item, join_keys: {item_id: string}}
sources:
  - name: events
    schema:
      event_id: string
      user_id: int64 not null
      item_id: string
      kind: string
      amount: decimal(18,2)
      at: timestamp
    timestamp_field: at
    event_id: event_id
    dedupe_within: 1h
    stream: {files: {path: "events/*.ndjson"}}
feature_views:
  - name: spending
    entity: user
    source: events
    ttl: 2d
    features:
      - {name: "count_{window}", count: "*", windows: [1h, 24h]}
      - {name: spent_24h, sum: amount, where: kind = 'purchase', window: 24h}
      - {name: kinds, top_k: {of: kind, k: 2}, window: 24h}
  - name: history
    entity: user
    source: events
    features:
      - {name: since, time_since_last: {}, where: kind = 'purchase', window: forever}
      - {name: items, count_distinct: item_id, window: forever}
  - name: popularity
    entity: item
    source: events
    ttl: 2d
    features:
      - {name: count_1h, count: "*", window: 1h}
      - {name: rank_1h, rank: {of: count_1h, method: share_of_max}, refresh: 1m}
"""
CLICKING_YAML = """
  - name: clicking
    entity: user
    source: clicks
    features:
      - {name: clicks, count: "*", window: forever}"""
"""A view of a second source, `clicks`."""
START_US = parse_timestamp("2026-01-01")
FUTURE_US = MINUTE_US


def compiled(folder: Path) -> Repo:
    """The repo above, written into `folder` and compiled."""
    (folder / "features").mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(STORE_YAML)
    (folder / "features" / "all.yaml").write_text(FEATURES_YAML)
    loaded = load(folder, None, {})
    return compile_repo(loaded.config, loaded.definitions)


class Topic:
    """Events in memory, by partition, as JSON messages with the time that they were recorded."""

    def __init__(self, partitions: Sequence[int]) -> None:
        self.messages: dict[int, list[tuple[bytes, int]]] = {partition: [] for partition in partitions}

    def put(self, partition: int, event: Mapping[str, Any] | bytes, recorded_us: int) -> None:
        message = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.messages[partition].append((message, recorded_us))

    def partitions(self) -> Sequence[int]:
        return list(self.messages)

    waits = False

    def first(self, partition: int) -> int:
        return 0

    def goal(self) -> Mapping[int, int] | None:
        return {}

    def behind(self, positions: Mapping[int, int]) -> Mapping[int, int]:
        return {}

    def on_revoke(self, call: Callable[[Sequence[int]], None]) -> None:
        pass

    def report(self, ends: Mapping[int, int]) -> None:
        pass

    def close(self) -> None:
        pass

    def read(
        self, source: Source, positions: Mapping[int, int], rows: int, wait_s: float = 0.0
    ) -> Mapping[int, list[RawBatch]]:
        """About as many of each partition."""
        share = -(-rows // max(len(positions), 1))
        found = {
            partition: self._read(partition, position, share) for partition, position in positions.items()
        }
        return {partition: batches for partition, batches in found.items() if batches}

    def _read(self, partition: int, position: int, rows: int) -> list[RawBatch]:
        """In batches of seven, as small as those of a real source are large."""
        found = self.messages[partition][position : position + rows]
        batches = []
        for first in range(0, len(found), 7):
            some = found[first : first + 7]
            start, end = position + first, position + first + len(some)
            recorded = np.array([recorded_us for _, recorded_us in some], np.int64)
            batches.append(RawBatch([message for message, _ in some], np.arange(start, end), end, recorded))
        return batches


@dataclass
class World:
    """The folder, what was recorded in it, and a clock that only `now_us` moves."""

    folder: Path
    topic: Topic
    repo: Repo
    now_us: int = START_US
    floors: dict[int, Mapping[int, int]] = field(default_factory=dict)
    engine: Engine = field(default_factory=lambda: Engine(threads=1))
    opened: list[SqliteStore] = field(default_factory=list)

    @property
    def source(self) -> Source:
        return self.repo.sources["events"]

    def store(self) -> SqliteStore:
        self.opened.append(SqliteStore(self.folder / "online.db", "shop", clock=lambda: self.now_us))
        return self.opened[-1]

    def log(self) -> OfflineLog:
        return OfflineLog(str(self.folder / "offline" / "events"), self.source)

    def members(self, names: Sequence[str] | None = None, first_number: int = 1) -> list[Kept]:
        views = [self.repo.views[name] for name in names or list(self.repo.views)]
        numbers = {name: number for number, name in enumerate(self.repo.views, start=first_number)}
        return [
            Kept(view, Build(numbers[view.name], view.name, view.entity, view.fingerprint, 1, "building",
                             self.floors.get(numbers[view.name]), 0))
            for view in views
        ]  # fmt: skip

    def worker(self, members: Sequence[Kept] | None = None) -> Worker:
        """A process of its own: its own connections, and nothing remembered."""
        log = self.log()

        def replayed(snapshot: Snapshot, partition: int, start: int, end: int) -> Iterator[pa.RecordBatch]:
            relation = evaluated.accepted(
                self.engine, self.source, snapshot, name="replayed", below={partition: end}
            )
            rows = self.engine.table(f"SELECT * FROM {relation} WHERE _offset >= {start} ORDER BY _offset")
            yield from rows.to_batches(max_chunksize=7)

        def below(snapshot: Snapshot | None, floor: Mapping[int, int]) -> str:
            return evaluated.accepted(self.engine, self.source, snapshot, below=floor)

        def set_floor(number: int, ends: Mapping[int, int]) -> Mapping[int, int]:
            return self.floors.setdefault(number, dict(ends))

        outside = Outside(
            self.topic, self.store(), log, DeadLetters(str(self.folder / "offline" / "letters")), self.engine,
            lambda: self.now_us, 1, replayed, below, set_floor, _never_renewed,
        )  # fmt: skip
        return Worker(
            self.source, self.members() if members is None else members, outside, Progress("events")
        )

    def lose_online(self) -> None:
        """Somebody deletes the store's files under the running workers."""
        for left in self.folder.glob("online.db*"):
            left.unlink()

    def close(self) -> None:
        for store in self.opened:
            store.close()
        self.engine.close()


def _never_renewed(number: int) -> Build:
    raise AssertionError(number)  # in this world the meaning never goes there and back


def drain(worker: Worker, rows: int = 50) -> None:
    """Everything that there is: decided, written, marked and committed."""
    worker.take_up()
    moved = True
    while moved:
        moved = False
        for take in (worker.replay, partial(worker.poll, rows)):
            batch = take()
            if batch is not None:
                worker.write_online(batch)
                assert worker.mark(batch)
                moved = True
    worker.commit_offline()


def random_event(chance: random.Random, place: int, now_us: int) -> tuple[dict[str, Any] | bytes, int]:
    """An event and when it was recorded: late, of the future, doubtful or repeated now and then."""
    late_us = chance.choice([0, 0, 0, MINUTE_US, 3 * HOUR_US, DAY_US, -30_000_000, -2 * MINUTE_US])
    if chance.random() < 0.05:
        return chance.choice([b"{", b'{"event_id": "x"}', b"[]"]), now_us
    number = place if chance.random() < 0.9 else chance.randrange(max(place, 1))
    event = {
        "event_id": f"e{number}",
        "user_id": chance.randrange(6),
        "item_id": chance.choice(["a", "b,c", "ü", None]),
        "kind": chance.choice(["view", "purchase", "search", None]),
        "amount": f"{chance.randrange(-500, 5_000)}.5",
        "at": format_timestamp(now_us - late_us),
    }
    return event, now_us


def decided(topic: Topic, source: Source) -> dict[tuple[int, int], str]:
    """What must become of every event, event by event: accepted, duplicate, or letter; the law in plain words."""
    fate = {}
    for partition, messages in topic.messages.items():
        remembered: dict[str, int] = {}
        newest_us = -(2**62)
        for offset, (message, recorded_us) in enumerate(messages):
            try:
                event = json.loads(message)
                at_us = parse_timestamp(event["at"])
                user_id, event_id = event["user_id"], event["event_id"]
                assert user_id is not None
            except (ValueError, KeyError, TypeError):
                fate[partition, offset] = "letter"
                continue
            if at_us > recorded_us + source.allowed_future_us:
                fate[partition, offset] = "letter"
            elif remembered.get(event_id, -(2**63)) >= newest_us - source.dedupe_within_us:
                fate[partition, offset] = "duplicate"
            else:
                fate[partition, offset] = "accepted"
                remembered[event_id], newest_us = at_us, max(newest_us, at_us)
    return fate


def check(world: World, members: Sequence[Kept]) -> None:
    """The laws at rest: each accepted event is in the log once, and in the state of its entities once."""
    fate = decided(world.topic, world.source)
    log, engine = world.log(), world.engine
    relation = evaluated.accepted(engine, world.source, log.snapshot())
    positions = engine.table(f"SELECT _partition, _offset FROM {relation} ORDER BY ALL").to_pylist()
    accepted = sorted(position for position, verdict in fate.items() if verdict == "accepted")
    assert [(row["_partition"], row["_offset"]) for row in positions] == accepted
    held = DeadLetters(str(world.folder / "offline" / "letters")).read()
    lettered = list(zip(held.column("partition").to_pylist(), held.column("offset").to_pylist(), strict=True))
    assert sorted(lettered) == sorted(position for position, verdict in fate.items() if verdict == "letter")
    store = world.store()
    for kept in members:
        assert online_states(store, kept) == expected_states(engine, relation, kept), kept.view.name


Cells = dict[str, list[tuple[Any, ...]]]


def online_states(store: SqliteStore, kept: Kept) -> Cells:
    """The cells of each entity's state, by id."""
    rows = [row for chunk in store.scan(kept.view.entity, kept.field, -(2**62)) for row in chunk]
    states, _ = codec.decode(kept.view, packed([blob for _, blob in rows]))
    return _cells(kept, states, [id for id, _ in rows])


def expected_states(engine: Engine, relation: str, kept: Kept) -> Cells:
    """The same, of all events at once."""
    events, ids = from_projection(kept.view, engine.table(projection_sql(kept.view, relation)))
    return _cells(kept, state.lift(kept.view, events, len(ids)), ids)


def _cells(kept: Kept, states: state.States, ids: Sequence[str]) -> Cells:
    texts = states.texts.to_pylist()
    found: Cells = {id: [] for id in ids}
    for place, (column, cells) in enumerate(zip(kept.view.columns, states.columns, strict=True)):
        by_key = column.is_text and column.key.value == "code"
        by_value = column.is_text and not by_key
        for at, tile, key, value in zip(
            cells.state.tolist(), cells.tile.tolist(), cells.key.tolist(), cells.value.tolist(), strict=True
        ):
            found[ids[at]].append(
                (place, tile, texts[key] if by_key else key, texts[value] if by_value else value)
            )
    return {id: sorted(some, key=repr) for id, some in found.items() if some}


def fill(
    world: World, chance: random.Random, count: int, step: Callable[[], int] = lambda: 1_000_000
) -> None:
    """Put events into random partitions, while time goes on."""
    for _ in range(count):
        world.now_us += step()
        partition = chance.choice(list(world.topic.messages))
        event, recorded_us = random_event(chance, len(world.topic.messages[partition]), world.now_us)
        world.topic.put(partition, event, recorded_us)


def with_view(world: World, name: str, source_yaml: Callable[[str], str]) -> Repo:
    """The repo with its YAML changed by `source_yaml`."""
    changed = source_yaml(FEATURES_YAML)
    (world.folder / "features" / "all.yaml").write_text(changed)
    loaded = load(world.folder, None, {})
    repo = compile_repo(loaded.config, loaded.definitions)
    return replace(repo, views={**repo.views, name: repo.views[name]})
