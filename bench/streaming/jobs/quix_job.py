"""A count-and-sum job in Quix Streams: its JSON deserializer, its RocksDB state with changelog topics.

    python quix_job.py totals|served|tumbling|sliding BOOTSTRAP TOPIC EVENTS STATE_FOLDER REDIS_URL

`served` are totals that can be read: exactly once, and into Redis by its own sink. The others are processed at least
once, and end in its state. Prints the seconds from the first message to the last of EVENTS. It runs in an environment
of its own.
"""

import json
import sys
import time
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum
from quixstreams.sinks.community.redis import RedisSink
from quixstreams.state import State


def main() -> None:
    job, bootstrap, topic, events, folder, redis_url = sys.argv[1:]
    started: list[float] = []
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{job}-{topic}-{time.time_ns()}",  # nothing of an earlier round
        auto_offset_reset="earliest",
        commit_interval=5.0,
        state_dir=folder,
        loglevel="ERROR",
        processing_guarantee="exactly-once" if job == "served" else "at-least-once",
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
    )

    def total(event: dict[str, Any], state: State) -> dict[str, Any]:
        totals = state.get("totals", default={"events": 0, "spent": 0.0})
        totals["events"] += 1
        totals["spent"] += event["amount"]
        state.set("totals", totals)
        return totals

    def amount(event: dict[str, Any]) -> dict[str, Any]:
        if not started:
            started.extend((time.perf_counter(), time.process_time()))
        return {"amount": float((event.get("metadata") or {}).get("total_amount") or 0.0)}

    def event_ms(event: dict[str, Any], *_: object) -> int:
        return int(datetime.fromisoformat(event["timestamp"]).timestamp() * 1000)

    is_of_all_time = job in {"totals", "served"}
    extractor = None if is_of_all_time else event_ms
    source = app.topic(
        topic, value_deserializer="json", key_deserializer="str", timestamp_extractor=extractor
    )
    frame = app.dataframe(source).apply(amount)
    if is_of_all_time:
        totals = frame.apply(total, stateful=True)
        if job == "served":
            redis = urlsplit(redis_url)
            totals.sink(
                RedisSink(redis.hostname, redis.port, db=0, key_serializer=lambda key, _: f"quix:{key}")
            )
    else:
        for hours in (1, 24):
            windows = frame.tumbling_window if job == "tumbling" else frame.sliding_window
            window = windows(timedelta(hours=hours), name=f"of_{hours}h")
            window.agg(events=Count(), spent=Sum("amount")).current()
    app.run(count=int(events), timeout=60.0)
    wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"events": int(events), "wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
