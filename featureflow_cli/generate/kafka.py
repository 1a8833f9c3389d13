"""Generated events to a Kafka topic: the same events, in the same order of arrival, as `files` would write.

At full speed, or so many a second. `live` has them happen as they are sent: the timestamp of an event is then
the moment at which the rate gives it its turn, and as long before as it is late.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from featureflow_cli.errors import NotFound, StoreUnavailable, UsageError, did_you_mean
from featureflow_cli.generate.files import count_late, events_table, json_objects
from featureflow_cli.generate.shop import Events, Scale, delays, deliveries, simulate
from featureflow_cli.times import MINUTE_US, SECOND_US, Clock, format_timestamp

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow_cli.compute.views import Repo, Source
    from featureflow_cli.generate.shop import Ints

KEYS = ("event_id", "user_id", "event_type", "item_id", "session_id")
"""The fields of an event that may decide its partition."""
ROWS_AT_ONCE = 10_000
TICK_S = 0.02
"""How often a paced sender sends what is due."""


class Sender(Protocol):
    """Where events go (sources.kafka_producer.Sender)."""

    def send(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> None: ...

    def flush(self) -> None: ...


class Stop(Protocol):
    """A `threading.Event`: its `wait` is the only sleep."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool: ...


@dataclass(frozen=True)
class Sent:
    """What was sent and taken: `sent` of them, second deliveries included; fewer where it was stopped."""

    events: Events
    sent: int
    repeated: int
    late: int
    elapsed_s: float


def choose(streamed: Sequence[str], repo: "Repo", wanted: str | None) -> "Source":
    """The source to write to: `wanted`, or the only one that streams from Kafka."""
    if wanted is not None and wanted not in streamed:
        what = f"no source '{wanted}' streams from Kafka"
        raise NotFound(what, hint=did_you_mean(wanted, streamed) or _offered(streamed))
    if wanted is None and len(streamed) != 1:
        what = "several sources stream from Kafka" if streamed else "no source streams from Kafka"
        raise UsageError(what, hint=f"say which: --source {streamed[0]}" if streamed else _offered(streamed))
    source = repo.sources[wanted or streamed[0]]
    if source.kafka is not None and source.kafka.format != "json":
        what = f"source '{source.name}' reads {source.kafka.format}, and events are generated as JSON"
        hint = f"generate files, and send their events as {source.kafka.format.title()}; or add a source of format json"
        raise UsageError(what, hint=hint)
    for column in sorted(source.not_null):
        if source.paths[column][0] not in {*KEYS, "timestamp", "metadata"}:
            what = f"generated events have no '{'.'.join(source.paths[column])}', which source '{source.name}' needs"
            raise UsageError(
                what, hint="they are those of the shop: see `featureflow init --template ecommerce`"
            )
    return source


def natural_key(repo: "Repo", source: "Source") -> str | None:
    """The field that holds the join key of the first entity with views of the source; None for a pair."""
    for entity in repo.entities:
        for view in repo.views.values():
            if view.entity == entity and view.source.name == source.name and len(view.join_keys) == 1:
                path = source.paths[view.join_keys[0].column]
                return path[0] if path[0] in KEYS else None
    return None


def generate(
    scale: Scale,
    sender: Sender,
    *,
    key: str | None,
    rate: float | None,
    live: bool,
    clock: Clock,
    stop: Stop,
    show: Callable[[int, int], None],
) -> Sent:
    """Simulate a shop and send its deliveries; `show` hears how many of how many were sent so far.

    `key` names the field that decides the partition; None: any will do. Set `stop` and it sends no more.
    UsageError for a key that events do not have, and for `live` without a rate; StoreUnavailable where Kafka does
    not take what was sent.
    """
    import numpy as np

    if live and rate is None:
        message = "--live needs a --rate: events happen as they are sent"
        raise UsageError(message)
    if rate is not None and rate <= 0:
        message = f"--rate is events a second, not {rate:g}"
        raise UsageError(message)
    if key is not None and key not in KEYS:
        message = f"generated events have no field '{key}' to be a key"
        raise UsageError(message, hint=did_you_mean(key, KEYS) or f"one of: {', '.join(KEYS)}")
    events = simulate(scale)
    order = deliveries(events, scale)
    table = events_table(events, scale)
    times_us = events.time_us
    if live and rate is not None:
        times_us = live_times(order, delays(scale), clock(), rate)
        table = _at(table, times_us)
    started = time.monotonic()
    sent = 0
    try:
        for start, end in _turns(len(order), rate, stop):
            rows = table.take(order[start:end])
            values = json_objects(rows).cast("binary").to_pylist()
            keys = None if key is None else rows[key].cast("string").cast("binary").to_pylist()
            sender.send(values, keys)
            sent = end
            show(sent, len(order))
        sender.flush()
    except StoreUnavailable as err:
        raise StoreUnavailable(err.what, hint=_again(scale)) from None
    return Sent(
        events=events,
        sent=sent,
        repeated=sent - int(np.count_nonzero(np.bincount(order[:sent]))),
        late=count_late(times_us[order[:sent]]),
        elapsed_s=time.monotonic() - started,
    )


def live_times(order: "Ints", delay_us: "Ints", started_us: int, rate: float) -> "Ints":
    """When each event happens if the n-th delivery of `order` has its turn n / rate seconds after the start.

    An event that is not late happens as it is sent.
    """
    import numpy as np

    turn = np.empty(len(delay_us), dtype=np.int64)
    turn[order[::-1]] = np.arange(len(order))[::-1]  # of two deliveries, the first
    late_us = np.where(delay_us >= MINUTE_US, delay_us, 0)
    return started_us + (turn * (SECOND_US / rate)).astype(np.int64) - late_us


def _again(scale: Scale) -> str:
    """What to do where Kafka did not take all of it."""
    same = f"--seed {scale.seed} --end {format_timestamp(scale.end_us)}"
    return (
        f"once Kafka is back, run it again with {same}: it sends the same events with the same ids, and"
        " `event_id` drops those that have arrived (within `dedupe_within`)"
    )


def _turns(count: int, rate: float | None, stop: Stop) -> Iterator[tuple[int, int]]:
    """Slices of 0..count: all at once in handy pieces, or as many as are due at each tick."""
    started = time.monotonic()
    sent = 0
    while sent < count and not stop.is_set():
        due = count if rate is None else min(count, int((time.monotonic() - started) * rate) + 1)
        if due <= sent:
            stop.wait(TICK_S)
            continue
        end = min(due, sent + ROWS_AT_ONCE)
        yield sent, end
        sent = end
        if end == due and sent < count:
            stop.wait(TICK_S)


def _at(table: "pa.Table", times_us: "Ints") -> "pa.Table":
    import pyarrow as pa

    at = table.schema.get_field_index("timestamp")
    return table.set_column(at, "timestamp", pa.array(times_us).cast(table.schema.field(at).type))


def _offered(streamed: Sequence[str]) -> str:
    if streamed:
        return f"one of: {', '.join(streamed)}"
    return (
        "give a source `stream: {kafka: {topic: ...}}`, and set `stream: {from: kafka}` if it has files too"
    )
