"""A synthetic shop, simulated in columns: sessions, tastes, popularity, late and repeated deliveries.

The same arguments give the same events (numpy's PCG64). What makes it worth training on: users favour a few
categories, items differ in popularity, price and quality, days have an evening peak, and whether a viewed
item is bought is told by what follows in its session.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featureflow_cli.errors import UsageError
from featureflow_cli.times import HOUR_US, MINUTE_US, SECOND_US

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

EVENT_TYPES = ("page_view", "item_view", "add_to_cart", "purchase", "search", "rating")
SHARES = (0.40, 0.30, 0.15, 0.10, 0.04, 0.01)
PAGE_VIEW, ITEM_VIEW, ADD_TO_CART, PURCHASE, SEARCH, RATING = range(6)
CATEGORIES = (
    "electronics",
    "books",
    "clothing",
    "home",
    "toys",
    "sports",
    "beauty",
    "garden",
    "grocery",
    "music",
    "shoes",
    "office",
)

EVENTS_A_SESSION = 8
GAP_US = 40 * SECOND_US
"""Mean time between two events of a session."""
FAVOURITES, FAVOURED_SHARE = 3, 0.75
ACTIVITY_SKEW, POPULARITY_SKEW = 0.6, 1.05
"""Exponents of Zipf's law: how uneven users and items are."""
DELIVERY_US = 400_000
"""Mean delay between an event and its delivery, where it is not late."""
LATE_MEAN_US, LATE_LIMIT_US = 45 * MINUTE_US, 24 * HOUR_US
REDELIVERY_US, REDELIVERY_LIMIT_US = 20 * SECOND_US, 10 * MINUTE_US
REPEATABLE_US = 30 * MINUTE_US
"""An event later than this is not repeated: the copy has to come while its id is remembered (an hour)."""


@dataclass(frozen=True)
class Scale:
    """How much of a shop: distinct `events` in [end - span, end); `late`, `duplicates` are shares of them."""

    events: int
    users: int
    items: int
    span_us: int
    end_us: int
    late: float = 0.02
    duplicates: float = 0.01
    seed: int = 42

    def __post_init__(self) -> None:
        for name, count in (("events", self.events), ("users", self.users), ("items", self.items)):
            if count < 1:
                message = f"--{name} must be at least 1, not {count}"
                raise UsageError(message)
        for name, share in (("late", self.late), ("duplicates", self.duplicates)):
            if not 0 <= share <= 1:
                message = f"--{name} is a share between 0 and 1, not {share}"
                raise UsageError(message)
        if self.span_us < SECOND_US:
            message = "--span must be at least 1s"
            raise UsageError(message)


@dataclass(frozen=True)
class Events:
    """One entry an event, in order of session and time; -1 (NaN for `rating`) stands for null.

    `amount_cents` is set for purchases, `rating` for ratings, `item` (from 1) for all but page views and
    searches, `category` (index into CATEGORIES) for all but page views. `bought` is true of an item view
    after which the same session bought the item it looked at.
    """

    type: "Ints"
    user: "Ints"
    item: "Ints"
    session: "Ints"
    time_us: "Ints"
    category: "Ints"
    amount_cents: "Ints"
    rating: "Floats"
    bought: "Bools"


def simulate(scale: Scale) -> Events:
    """The events of a shop of that scale, each once; delivery is `deliveries`."""
    import numpy as np

    rng = np.random.default_rng(scale.seed)
    session, session_user, time_us = _sessions(rng, scale)
    user = session_user[session]
    kind = rng.choice(len(EVENT_TYPES), size=scale.events, p=SHARES)
    opens = np.empty(scale.events, dtype=np.bool_)
    opens[0] = True
    opens[1:] = session[1:] != session[:-1]

    catalogue = _Catalogue.build(rng, scale.items)
    wanted_category = _wanted(rng, scale.users, catalogue.categories, user)
    own_item = catalogue.pick(rng, wanted_category)

    # Carts, purchases and ratings are of the item that the session viewed last, if it viewed any.
    seen = _last_view(kind == ITEM_VIEW, opens)
    about_item = (kind != PAGE_VIEW) & (kind != SEARCH)
    item = np.where((kind != ITEM_VIEW) & (seen >= 0), own_item[np.maximum(seen, 0)], own_item)
    category = np.where(
        kind == PAGE_VIEW, -1, np.where(kind == SEARCH, wanted_category, catalogue.category[item])
    )

    quantity = 1 + (rng.random(scale.events) < 0.2) + (rng.random(scale.events) < 0.05)
    amount_cents = np.where(kind == PURCHASE, catalogue.price_cents[item] * quantity, -1)
    opinion = np.clip(np.round(2 * (catalogue.quality[item] + rng.normal(0, 0.7, scale.events))) / 2, 1, 5)
    bought = np.zeros(scale.events, dtype=np.bool_)
    bought[seen[(kind == PURCHASE) & (seen >= 0)]] = True
    return Events(
        type=kind,
        user=user + 1,
        item=np.where(about_item, item + 1, -1),
        session=session,
        time_us=time_us,
        category=category,
        amount_cents=amount_cents,
        rating=np.where(kind == RATING, opinion, np.nan),
        bought=bought,
    )


def deliveries(events: Events, scale: Scale) -> "Ints":
    """Indexes into `events` in order of arrival; late ones come after newer ones, some come twice.

    A second delivery comes within minutes of the first, and while the event's id is still remembered.
    """
    import numpy as np

    rng = np.random.default_rng([scale.seed, 1])
    n = scale.events
    delay = _delays(rng, scale)
    arrival = events.time_us + delay.astype(np.int64)

    repeated = np.flatnonzero((rng.random(n) < scale.duplicates) & (delay < REPEATABLE_US))
    again = np.minimum(rng.exponential(REDELIVERY_US, repeated.size), REDELIVERY_LIMIT_US).astype(np.int64)
    order = np.concatenate([np.arange(n), repeated])
    return order[np.argsort(np.concatenate([arrival, arrival[repeated] + 1 + again]), kind="stable")]


def delays(scale: Scale) -> "Ints":
    """Microseconds from each event to its first delivery: a minute or more where it is late."""
    import numpy as np

    return _delays(np.random.default_rng([scale.seed, 1]), scale).astype(np.int64)


def label_views(events: Events, count: int, seed: int) -> "Ints":
    """Indexes of `count` item views, in order of time; a view is taken again where there are fewer."""
    import numpy as np

    rng = np.random.default_rng([seed, 2])
    views = np.flatnonzero(events.type == ITEM_VIEW)
    if not views.size:
        message = "no item was viewed, so there is nothing to label"
        raise UsageError(message, hint="generate more --events")
    chosen = rng.choice(views, size=count, replace=count > views.size)
    return chosen[np.argsort(events.time_us[chosen], kind="stable")]


@dataclass(frozen=True)
class _Catalogue:
    """What is sold. `by_category` lists the items by category; `weight_ends` is their running popularity."""

    category: "Ints"
    price_cents: "Ints"
    quality: "Floats"
    categories: int
    by_category: "Ints"
    weight_ends: "Floats"
    starts: "Ints"

    @classmethod
    def build(cls, rng: "np.random.Generator", items: int) -> "_Catalogue":
        import numpy as np

        categories = min(len(CATEGORIES), items)
        category = np.arange(items) % categories
        popularity = rng.permutation(_zipf(items, POPULARITY_SKEW))
        by_category = np.argsort(category, kind="stable")
        starts = np.searchsorted(category[by_category], np.arange(categories + 1))
        level = rng.normal(0, 0.8, categories)
        price_cents = (np.exp(3.2 + level[category] + rng.normal(0, 0.6, items)) * 100).astype(np.int64) + 50
        return cls(
            category=category,
            price_cents=price_cents,
            quality=np.clip(rng.normal(3.9, 0.6, items), 1, 5),
            categories=categories,
            by_category=by_category,
            weight_ends=np.cumsum(popularity[by_category]),
            starts=starts,
        )

    def pick(self, rng: "np.random.Generator", category: "Ints") -> "Ints":
        """An item of each wanted category, the popular ones more often."""
        import numpy as np

        ends = np.concatenate([[0.0], self.weight_ends])
        low, high = ends[self.starts[category]], ends[self.starts[category + 1]]
        place = np.searchsorted(
            self.weight_ends, low + rng.random(category.size) * (high - low), side="right"
        )
        picked: Ints = self.by_category[np.minimum(place, self.starts[category + 1] - 1)]
        return picked


def _sessions(rng: "np.random.Generator", scale: Scale) -> "tuple[Ints, Ints, Ints]":
    """Of each event its session and time (inside the span, rising in a session); of each session its user."""
    import numpy as np

    lengths: Ints = np.empty(0, dtype=np.int64)
    while lengths.sum() < scale.events:
        more = (scale.events - int(lengths.sum())) // EVENTS_A_SESSION + 16
        lengths = np.concatenate([lengths, rng.geometric(1 / EVENTS_A_SESSION, more)])
    session = np.repeat(np.arange(lengths.size), lengths)[: scale.events]
    count = int(session[-1]) + 1
    activity = np.cumsum(rng.permutation(_zipf(scale.users, ACTIVITY_SKEW)))
    user = np.minimum(
        np.searchsorted(activity, rng.random(count) * activity[-1], side="right"), scale.users - 1
    )

    gaps = 1 + rng.exponential(GAP_US, scale.events).astype(np.int64)
    since = np.cumsum(gaps)
    first = np.searchsorted(session, np.arange(count))
    since -= since[first][session]
    last = np.append(first[1:], scale.events) - 1
    # A session longer than the span (a very short span) is squeezed into it.
    limit = scale.span_us // 2
    long = np.maximum(since[last], 1)
    since = np.where((long > limit)[session], (since * (limit / long[session])).astype(np.int64), since)
    room = (scale.span_us - since[last]) / scale.span_us
    starts = scale.end_us - scale.span_us + (_moments(rng, count, scale) * room).astype(np.int64)
    return session, user, starts[session] + since


def _moments(rng: "np.random.Generator", count: int, scale: Scale) -> "Floats":
    """Microseconds from the span's start, more of them in the evening; sorted."""
    import numpy as np

    begin = scale.end_us - scale.span_us
    edges = np.append(np.arange(begin, scale.end_us, HOUR_US), scale.end_us)
    hour = (edges[:-1] // HOUR_US) % 24
    weight = np.diff(edges) * (1 + 0.6 * np.sin((hour - 14) / 24 * 2 * np.pi))
    ends = np.cumsum(weight)
    since = (edges - begin).astype(np.float64)
    return np.sort(np.interp(rng.random(count) * ends[-1], np.append(0.0, ends), since))


def _wanted(rng: "np.random.Generator", users: int, categories: int, user: "Ints") -> "Ints":
    """A category for each event's user: mostly one of the user's favourites, the first of them most often."""
    import numpy as np

    favourites = rng.integers(0, categories, (users, FAVOURITES))
    which = rng.choice(FAVOURITES, size=user.size, p=(0.6, 0.25, 0.15))
    anything = rng.integers(0, categories, user.size)
    return np.where(rng.random(user.size) < FAVOURED_SHARE, favourites[user, which], anything)


def _last_view(views: "Bools", opens: "Bools") -> "Ints":
    """Index of the newest view at or before each event in its own session, or -1."""
    import numpy as np

    at = np.arange(views.size)
    seen = np.maximum.accumulate(np.where(views, at, -1))
    opened = np.maximum.accumulate(np.where(opens, at, 0))
    return np.where(seen >= opened, seen, -1)


def _delays(rng: "np.random.Generator", scale: Scale) -> "Floats":
    import numpy as np

    delay = rng.exponential(DELIVERY_US, scale.events)
    late = rng.random(scale.events) < scale.late
    delay[late] += np.minimum(MINUTE_US + rng.exponential(LATE_MEAN_US, int(late.sum())), LATE_LIMIT_US)
    return delay


def _zipf(n: int, exponent: float) -> "Floats":
    """Weights of Zipf's law for ranks 1 to n, the heaviest first."""
    import numpy as np

    return np.arange(1, n + 1, dtype=np.float64) ** -exponent
