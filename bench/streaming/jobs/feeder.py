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
CHANGED = re.compile(rb'"event_id":"[^"]+"(.+)"timestamp":"[^"]+"(.+)')


def main() -> None:
    bootstrap, topic, ndjson, rate, seconds = sys.argv[1:]
    parts = []
    for line in Path(ndjson).read_bytes().splitlines():
        found = CHANGED.search(line)
        assert found is not None, line
        parts.append((str(orjson.loads(line)["user_id"]).encode(), *found.groups()))
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
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()
        some = ((at, *parts[at % len(parts)]) for at in range(sent, due))
        events = [
            {"key": key, "value": b'{"event_id":"%032x"%b"timestamp":"%b"%b' % (at, body, now, tail)}
            for at, key, body, tail in some
        ]
        producer.produce_batch(topic, events)
        producer.poll(0)
        sent = due
        behind_s = max(behind_s, time.perf_counter() - started - passed)
        time.sleep(TICK_S)
    producer.flush(30)
    print(json.dumps({"events": sent, "behind_s": behind_s, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
