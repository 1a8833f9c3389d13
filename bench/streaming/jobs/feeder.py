"""Events as they happen, at a rate: generated beforehand, and given an id of their own and the time of their sending.

    python -m bench.streaming.jobs.feeder BOOTSTRAP TOPIC NDJSON RATE SECONDS

So a producer costs little of the CPU that it shares with what is measured. Prints how many were sent, and by how
much the sending was ever behind its rate.
"""

import gc
import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
from confluent_kafka import Producer

TICK_S = 0.01
CHANGED = re.compile(rb'"event_id":("[^"]+".+"timestamp":)"[^"]+"(.+)')


def main() -> None:
    bootstrap, topic, ndjson, rate, seconds = sys.argv[1:]
    messages, parts = [], []
    for line in Path(ndjson).read_bytes().splitlines():
        found = CHANGED.search(line)
        assert found is not None, line
        messages.append({"key": str(orjson.loads(line)["user_id"]).encode(), "value": b""})
        parts.append((found[1][1:], found[2]))
    producer = Producer({
        "bootstrap.servers": bootstrap, "linger.ms": 10, "compression.type": "lz4", "enable.idempotence": True,
        "partitioner": "murmur2_random", "delivery.report.only.error": True,
        "queue.buffering.max.messages": 1_000_000,
    })  # fmt: skip
    gc.disable()
    started, sent, behind_s = time.perf_counter(), 0, 0.0
    total = int(float(rate) * float(seconds))
    while sent < total:
        passed = time.perf_counter() - started
        due = min(total, int(passed * float(rate)))
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        stamp = f'"{now}"'.encode()
        while sent < due:
            turn, first = divmod(sent, len(parts))
            some = slice(first, min(len(parts), first + due - sent))
            start = b'{"event_id":"%x-' % turn
            for message, (body, tail) in zip(messages[some], parts[some], strict=True):
                message["value"] = b"".join((start, body, stamp, tail))
            producer.produce_batch(topic, messages[some])
            sent += some.stop - some.start
        producer.poll(0)
        behind_s = max(behind_s, time.perf_counter() - started - passed)
        time.sleep(TICK_S)
    producer.flush(30)
    print(json.dumps({"events": sent, "behind_s": behind_s, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
