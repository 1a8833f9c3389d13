"""Events of the example shop, small and seeded: for laws that want life-like data."""

import random
from decimal import Decimal

from featureflow_cli.spec.types import Value
from featureflow_cli.times import DAY_US, parse_timestamp

SHOP_KINDS = {"page_view": 40, "item_view": 30, "add_to_cart": 15, "purchase": 10, "search": 4, "rating": 1}
SHOP_START_US = parse_timestamp("2026-01-01")


def shop_events(seed: int, n: int) -> list[dict[str, Value]]:
    """`n` events of the example shop's `user_events` over ten days, in order of arrival: 2% come late."""
    chance = random.Random(seed)
    kinds = chance.choices(list(SHOP_KINDS), list(SHOP_KINDS.values()), k=n)
    events: list[dict[str, Value]] = []
    for place, kind in enumerate(kinds):
        at_us = SHOP_START_US + place * 10 * DAY_US // max(n, 1) + chance.randrange(1_000_000)
        if chance.random() < 0.02:
            at_us -= chance.randrange(2 * DAY_US)
        user_id = min(int(chance.paretovariate(0.8)), 500)
        cents = chance.randrange(-500, 50_000)
        events.append(
            {
                "event_id": f"e{place}",
                "user_id": user_id,
                "event_type": kind,
                "item_id": None
                if kind in {"page_view", "search"}
                else min(int(chance.paretovariate(0.7)), 300),
                "session_id": f"s{user_id}-{at_us // (30 * 60_000_000)}",
                "timestamp": at_us,
                "category": chance.choice(["shoes", "books", "Öl & Essig", "toys", None]),
                "total_amount": Decimal(f"{cents}E-2") if kind == "purchase" else None,
                "rating": chance.randint(2, 10) / 2 if kind == "rating" else None,
            }
        )
    return events
