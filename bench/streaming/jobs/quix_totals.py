"""The count-and-sum job in Quix Streams: its JSON deserializer, its RocksDB state with a changelog topic, no sink.

    python quix_totals.py BOOTSTRAP TOPIC EVENTS STATE_FOLDER

Prints the seconds from the first message to the last of EVENTS. It runs in an environment of its own.
"""

import json
import sys
import time
from typing import Any

from quixstreams import Application
from quixstreams.state import State


def main() -> None:
    bootstrap, topic, events, folder = sys.argv[1:]
    started: list[float] = []
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{topic}",
        auto_offset_reset="earliest",
        commit_interval=5.0,
        state_dir=folder,
        loglevel="ERROR",
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
    )

    def total(event: dict[str, Any], state: State) -> dict[str, Any]:
        if not started:
            started.extend((time.perf_counter(), time.process_time()))
        amount = (event.get("metadata") or {}).get("total_amount")
        totals = state.get("totals", default={"events": 0, "spent": 0.0})
        totals["events"] += 1
        totals["spent"] += 0.0 if amount is None else float(amount)
        state.set("totals", totals)
        return totals

    frame = app.dataframe(app.topic(topic, value_deserializer="json", key_deserializer="str"))
    frame = frame.apply(total, stateful=True)
    app.run(count=int(events), timeout=60.0)
    wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
    print(json.dumps({"events": int(events), "wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
