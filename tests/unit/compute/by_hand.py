"""Events, views and values as the tests of the brute-force definition write them down."""

from typing import Any

from featureflow_cli.compute import reference
from featureflow_cli.compute.views import View
from featureflow_cli.spec.types import Value
from featureflow_cli.times import parse_timestamp
from tests.laws.strategies import SCHEMA, compiled, written_as


def at(text: str) -> int:
    """A moment of 1 January 2026 (`10:30`, `10:30:00.5`), or of another day where the text says so."""
    return parse_timestamp(text if "-" in text else f"2026-01-01T{text}")


def row(when: str | int, **columns: Value) -> dict[str, Value]:
    """An event of user 1, null where nothing is said."""
    known = {"uid": 1, "ts": at(when) if isinstance(when, str) else when, **columns}
    return {name: known.get(name) for name in SCHEMA}


def view_of(*features: dict[str, Any], created: bool = False, **rest: Any) -> View:
    written = {"name": "v", "source": "s", "entity": "user", **rest}
    if features:
        written["features"] = [{"name": f"f{place}", **feature} for place, feature in enumerate(features)]
    return compiled(written_as([written], created=created)).views["v"]


def values(
    view: View, events: list[dict[str, Value]], when: str | int, key: tuple[Value, ...] = (1,)
) -> list[Value]:
    t_us = at(when) if isinstance(when, str) else when
    return list(reference.answer(view, events, key, t_us).values.values())


def value(feature: dict[str, Any], events: list[dict[str, Value]], when: str | int) -> Value:
    """One feature over `forever` (unless it says another window) of user 1."""
    window = {} if "window" in feature else {"window": "forever"}
    return values(view_of(feature | window), events, when)[0]
