"""The crash law in its large form: workers die at every boundary of the protocol, freeze, leave and come; Redis
loses everything; the topic grows. In the end log, letters and the state of every entity are what the law says.

    python -m bench.crash --events 1000000 --rounds 1          (from the root of the checkout)

Prints every misfortune as it comes. Exit code 1 where anything was lost or doubled. The same seed draws the same
misfortunes, not the same interleaving.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.kafka.crash_law import Misfortunes, check, messages, shop
from tests.services.kafka import kafka_broker
from tests.services.redis import redis_server

ROOT = Path(__file__).resolve().parents[1]
PARTITIONS = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.crash", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1, help="how often each misfortune comes")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)  # the workers are those of this checkout
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="featureflow-crash-", ignore_cleanup_errors=True) as place,
        kafka_broker(heap_mb=1024, quick=False) as kafka,
        redis_server() as redis,
    ):
        folder, topic = Path(place), kafka.topic(PARTITIONS)
        project = shop(folder, kafka, topic, redis.url)
        events = messages(folder, asked.events, asked.seed, asked.users)
        said(started, f"{len(events):,} messages are ready")
        misfortunes = Misfortunes(
            project, kafka, topic, redis, events, asked.seed, count=asked.workers, rounds=asked.rounds
        )
        misfortunes.run()
        said(started, "all is streamed; the law is held against it")
        try:
            law = check(project, kafka, topic)
        except AssertionError as err:
            sys.exit(f"The law does not hold (seed {asked.seed}): {err}")
    accepted = sum(map(len, law.accepted.values()))
    said(
        started,
        f"{accepted:,} events in the log, {law.duplicates:,} duplicates dropped, {len(law.letters):,} dead letters, and"
        f" every state equal to the law's: 0 lost, 0 doubled",
    )


def said(started: float, what: str) -> None:
    print(f"{time.monotonic() - started:7.1f} s  {what}", flush=True)


if __name__ == "__main__":
    main()
