"""The floor: consume a topic and decode its JSON, with the very consumer settings of `featureflow stream`.

    python -m bench.streaming.jobs.floor PROJECT_FOLDER [DECODER] [SOME]

No group, no offsets, no columns, nothing kept. Prints the seconds from the first request to the last message.
Of the decoders there are, the fastest on the first messages is taken unless one is named.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable

import msgspec
import orjson
import pyarrow as pa
import pyarrow.json
from confluent_kafka import Consumer, Message, TopicPartition

from featureflow_cli.evaluate.project import open_project
from featureflow_cli.sources.kafka import consumer_config
from featureflow_cli.sources.topic_reader import PIECE
from featureflow_cli.stream.outside import NEWS_S
from featureflow_cli.times import system_clock

Decode = Callable[[list[bytes]], None]


def by_orjson(values: list[bytes]) -> None:
    """Each message a dict."""
    loads = orjson.loads
    for value in values:
        loads(value)


def by_arrow(values: list[bytes]) -> None:
    """Blocks of Arrow columns; types as Arrow infers them."""
    pyarrow.json.read_json(pa.BufferReader(b"\n".join(values)))


def msgspec_decode() -> Decode:
    """Each message a checked struct of the fields that the features need, as the stream reads them."""
    fields = [("event_id", str), ("user_id", int), ("event_type", str), ("timestamp", str)]
    optional = [("item_id", int | None, None), ("session_id", str | None, None)]
    details = [
        ("category", str | None, None),
        ("total_amount", str | None, None),
        ("rating", str | float | None, None),
    ]
    metadata = msgspec.defstruct("Metadata", details, gc=False)
    event = msgspec.defstruct("Event", [*fields, *optional, ("metadata", metadata | None, None)], gc=False)
    decode = msgspec.json.Decoder(event).decode

    def by_msgspec(values: list[bytes]) -> None:
        for value in values:
            decode(value)

    return by_msgspec


def decoders() -> dict[str, Decode]:
    return {"orjson": by_orjson, "pyarrow": by_arrow, "msgspec": msgspec_decode()}


def fastest(values: list[bytes]) -> str:
    def seconds(decode: Decode) -> float:
        started = time.process_time()
        decode(values)
        return time.process_time() - started

    return min(decoders(), key=lambda name: min(seconds(decoders()[name]) for _ in range(3)))


def main() -> None:
    folder, *named = sys.argv[1:]
    source = open_project(folder, None, dict(os.environ), system_clock).repo.sources["user_events"]
    assert source.kafka is not None
    config = consumer_config(source.kafka, os.environ, "floor")
    topic, wall, cpu, count = source.kafka.topic, 0.0, 0.0, 0
    probe = Consumer(config)
    partitions = probe.list_topics(topic, timeout=10).topics[topic].partitions
    left = sum(probe.get_watermark_offsets(TopicPartition(topic, each), timeout=10)[1] for each in partitions)
    probe.assign([TopicPartition(topic, 0, 0)])
    name = named[0] if named else fastest([message.value() for message in probe.consume(10_000, 10)])
    probe.close()
    decode = decoders()[name]
    consumer = Consumer(config)
    gc.disable()  # as the stream does while it consumes
    wall, cpu = time.perf_counter(), time.process_time()
    consumer.assign([TopicPartition(topic, each, 0) for each in partitions])
    while count < left:
        messages = consumer.consume(PIECE, NEWS_S)
        decode(list(map(Message.value, messages)))
        count += len(messages)
    print(json.dumps({
        "decoder": name,
        "events": count,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
    }))  # fmt: skip
    consumer.close()


if __name__ == "__main__":
    main()
