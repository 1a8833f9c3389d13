"""A materializer as most people write it first: event by event in Python, one Redis key per feature with a TTL.

    python -m bench.streaming.jobs.per_event BOOTSTRAP TOPIC EVENTS REDIS_URL

It is favoured: windows live in this process' memory and are lost with it, nothing is committed, no event is checked,
late events are dropped, and 100 events go to Redis in one pipeline. Ten keys of the user, eight of the item.
"""

import gc
import json
import sys
import time
from collections import Counter, defaultdict, deque
from datetime import datetime
from typing import Any

import orjson
import redis
from confluent_kafka import Consumer, TopicPartition

TTL_S = 30 * 24 * 3600
HOUR, DAY, WEEK = 3600.0, 86_400.0, 7 * 86_400.0
AT_ONCE = 100


class Window:
    """How many events, and how much, in the last `width` seconds."""

    __slots__ = ("count", "events", "total", "width")

    def __init__(self, width: float) -> None:
        self.width, self.count, self.total = width, 0, 0.0
        self.events: deque[tuple[float, float]] = deque()

    def at(self, now: float, amount: float | None = None) -> "Window":
        """It moves to `now`, and takes in an event of that time where there is an amount."""
        if amount is not None:
            self.events.append((now, amount))
            self.count += 1
            self.total += amount
        while self.events and self.events[0][0] < now - self.width:
            self.count -= 1
            self.total -= self.events.popleft()[1]
        return self


class User:
    def __init__(self) -> None:
        self.purchases = [Window(HOUR), Window(DAY), Window(WEEK)]
        self.views = [Window(HOUR), Window(DAY), Window(WEEK)]
        self.carts = Window(HOUR)
        self.categories: Counter[str] = Counter()
        self.sessions: dict[str, list[float]] = {}
        self.purchased = 0.0

    def features(self, event: dict[str, Any], now: float, amount: float) -> dict[str, object]:
        kind, details = event["event_type"], event["metadata"]
        bought, viewed = amount if kind == "purchase" else None, 0.0 if kind == "item_view" else None
        purchases = [window.at(now, bought) for window in self.purchases]
        views = [window.at(now, viewed) for window in self.views]
        self.carts.at(now, 0.0 if kind == "add_to_cart" else None)
        if kind == "item_view" and details.get("category"):
            self.categories[details["category"]] += 1
        if kind == "purchase":
            self.purchased = now
        session = self.sessions.setdefault(event["session_id"] or "", [now, now])
        session[1] = now
        spans = [end - start for start, end in self.sessions.values() if end > start]
        return {
            "purchase_count_1h": purchases[0].count,
            "purchase_count_24h": purchases[1].count,
            "item_view_count_1h": views[0].count,
            "item_view_count_24h": views[1].count,
            "cart_count_1h": self.carts.count,
            "total_spend_24h": purchases[1].total,
            "conversion_rate_7d": purchases[2].count / views[2].count if views[2].count else 0.0,
            "category_affinity": ",".join(name for name, _ in self.categories.most_common(3)),
            "avg_session_duration": sum(spans) / len(spans) / 60 if spans else 0.0,
            "days_since_last_purchase": (now - self.purchased) / DAY,
        }


class Item:
    def __init__(self) -> None:
        self.views, self.purchases = [Window(HOUR), Window(DAY)], Window(DAY)
        self.carts = Window(HOUR)
        self.ratings = [0, 0.0]

    def features(
        self, event: dict[str, Any], now: float, amount: float, most: list[int]
    ) -> dict[str, object]:
        kind, rating = event["event_type"], event["metadata"].get("rating")
        views = [window.at(now, 0.0 if kind == "item_view" else None) for window in self.views]
        self.purchases.at(now, amount if kind == "purchase" else None)
        self.carts.at(now, 0.0 if kind == "add_to_cart" else None)
        if rating is not None:
            self.ratings = [self.ratings[0] + 1, self.ratings[1] + rating]
        most[0] = max(most[0], views[0].count)
        return {
            "view_count_1h": views[0].count,
            "view_count_24h": views[1].count,
            "purchase_count_24h": self.purchases.count,
            "cart_add_count_1h": self.carts.count,
            "conversion_rate_24h": self.purchases.count / views[1].count if views[1].count else 0.0,
            "revenue_24h": self.purchases.total,
            "popularity_rank_1h": views[0].count / most[0] if most[0] else 0.0,
            "avg_rating": self.ratings[1] / self.ratings[0] if self.ratings[0] else 0.0,
        }


def main() -> None:
    bootstrap, topic, events, url = sys.argv[1:]
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "per-event", "fetch.queue.backoff.ms": 5,
        "enable.auto.commit": False,
    })  # fmt: skip
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    users: dict[int, User] = defaultdict(User)
    items: dict[int, Item] = defaultdict(Item)
    most = [0]
    client = redis.Redis.from_url(url)
    pipeline = client.pipeline(transaction=False)
    consumer.assign([TopicPartition(topic, each, 0) for each in partitions])
    started, cpu, done = time.perf_counter(), time.process_time(), 0
    gc.freeze()
    while done < int(events):
        for message in consumer.consume(AT_ONCE, 0.1):
            event = orjson.loads(message.value())
            event["metadata"] = event.get("metadata") or {}
            now = datetime.fromisoformat(event["timestamp"]).timestamp()
            amount = float(event["metadata"].get("total_amount") or 0)
            user, item = event["user_id"], event.get("item_id")
            for name, value in users[user].features(event, now, amount).items():
                pipeline.setex(f"user:{user}:{name}", TTL_S, value)
            if item is not None:
                for name, value in items[item].features(event, now, amount, most).items():
                    pipeline.setex(f"item:{item}:{name}", TTL_S, value)
            done += 1
        pipeline.execute()
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"events": done, "wall_s": wall_s, "cpu_s": cpu_s}))
    consumer.close()


if __name__ == "__main__":
    main()
