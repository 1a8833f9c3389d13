"""What a view costs and what it can never do: what `plan` owes the user by law (design.md 1)."""

from featureflow_cli.compute.views import Feature, Key, Source, StateColumn, View
from featureflow_cli.compute.windows import EXACT_US, default_resolution
from featureflow_cli.plan.history import History
from featureflow_cli.times import SECOND_US, format_duration, format_timestamp

KEYED_CELL_BYTES = 24
"""Tile, key and value in a blob, at their widest (compute/codec.py)."""
REBUILD_EVENTS_A_SECOND = 300_000
"""A cautious rate of bootstrapping, for estimates only."""


def source_notes(source: Source, history: History | None) -> tuple[str, ...]:
    """The ids to be remembered, and how far history reaches."""
    notes = []
    if source.event_id is not None:
        span = format_duration(source.dedupe_within_us)
        notes.append(
            f"event ids ({source.event_id}) of the last {span} are remembered{_ids(source, history)}"
        )
    if history is not None and history.starts_us is not None:
        earlier = f", but for {count(history.apart)} of the events, long before" if history.apart else ""
        notes.append(f"history starts at {format_timestamp(history.starts_us)}{earlier}")
    return tuple(notes)


def _ids(source: Source, history: History | None) -> str:
    if history is None or history.starts_us is None or history.ends_us is None:
        return ""
    span_us = max(history.ends_us - history.starts_us, source.dedupe_within_us, 1)
    usual = history.events - history.apart
    return f", about {count(usual * source.dedupe_within_us // span_us)} at the log's rate"


def view_notes(view: View, history: History | None) -> tuple[str, ...]:
    """What grows, what never expires, what a rank costs."""
    notes = [*_exact(view), *_keyed(view)]
    if not view.latest and view.ttl_us is None:
        notes.append("never expires: a forever window keeps every entity; there is no ttl")
    elif view.latest and view.ttl_us is None:
        notes.append("never expires: ttl is forever")
    notes += [_rank(view, feature, history) for feature in view.features if feature.aggregation == "rank"]
    return tuple(notes)


def _exact(view: View) -> list[str]:
    """Windows that were asked to be exact; those under 60 ms are so by themselves, and small."""
    names = [
        feature.name
        for feature in view.features
        if feature.window.width_us is not None
        and feature.window.resolution_us == EXACT_US
        and default_resolution(feature.window.width_us) != EXACT_US
        and feature.aggregation not in {"last", "last_k", "time_since_last", "count_distinct"}
    ]
    if not names:
        return []
    return [f"exact windows: the state of {_names(names)} grows with the events in its window"]


def _keyed(view: View) -> list[str]:
    """Bytes of the keyed columns, at most: tiles x max_keys (design.md section 2)."""
    size = sum(
        keyed_bytes(column)
        for column in view.columns
        if column.key in {Key.HASH, Key.CODE} and not _is_exact(column)
    )
    if size == 0:
        return []
    names = [
        feature.name
        for feature in view.features
        if feature.aggregation in {"top_k", "session_mean", "count_distinct"}
    ]
    return [f"keyed state of {_names(names)}: at most {size_text(size)} an entity (tiles x max_keys)"]


def _is_exact(column: StateColumn) -> bool:
    """Whether it grows with its events, and so has no such bound."""
    return column.is_tiled and any(
        width_us is not None and resolution_us == EXACT_US for width_us, resolution_us in column.horizons
    )


def keyed_bytes(column: StateColumn) -> int:
    """The most that one keyed column of one entity takes."""
    return _tiles(column) * max(column.max_keys, 1) * KEYED_CELL_BYTES


def _tiles(column: StateColumn) -> int:
    """How many tiles the column's horizons keep: each finer one only as far as its own window reaches."""
    if not column.is_tiled:
        return 1
    tiles, reached_us = 1, 0
    for width_us, resolution_us in column.horizons:
        if width_us is None:
            tiles += 1
        elif width_us > reached_us:
            tiles += (width_us - reached_us) // resolution_us + 1
            reached_us = width_us
    return tiles


def _rank(view: View, feature: Feature, history: History | None) -> str:
    entities = "every entity active in its window"
    points = f"once per {format_duration(feature.refresh_us)} while it is read"
    known = f" (at most {count(history.events)} now)" if history and history.events else ""
    return f"rank {feature.name}: {entities}{known} is evaluated {points}"


def rebuild_text(history: History | None, *, replaces: bool) -> str:
    """What happens to a view's state: `is built from 1.2M events of history (about 4 s)`."""
    verb = "rebuilt" if replaces else "built"
    if history is None or history.events == 0:
        return f"state is {verb} as events arrive; there is no history yet"
    about = format_duration(-(-history.events // REBUILD_EVENTS_A_SECOND) * SECOND_US)
    text = f"state is {verb} from {count(history.events)} events of history (about {about})"
    if history.starts_us is not None:
        text += f", which starts at {format_timestamp(history.starts_us)[:19]}Z"
    return f"{text}; the present one serves until then" if replaces else text


def count(number: int) -> str:
    """`950`, `12.3k`, `1.2M`: three digits at most, for estimates."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.1f}{unit}" if number < 100 * size else f"{number // size}{unit}"
    return str(number)


def size_text(size: int) -> str:
    """`312 kB`, `9.4 MB`."""
    for unit, bytes_a_unit in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_a_unit:
            amount = size / bytes_a_unit
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    return f"{size} B"


def _names(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and {len(names) - 3} more"
