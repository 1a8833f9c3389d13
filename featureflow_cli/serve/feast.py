"""Feast's own endpoint, so that an existing Feast client works unchanged (docs/coming-from-feast.md).

Columns instead of rows: `results[i]` holds the values of `metadata.feature_names[i]`, join keys first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featureflow_cli.compute.views import Service
from featureflow_cli.errors import UsageError
from featureflow_cli.evaluate.spelling import spelled
from featureflow_cli.evaluate.vector import Vector
from featureflow_cli.serve.requests import Asked, check_rows, read_json, typed
from featureflow_cli.serve.world import World
from featureflow_cli.times import format_timestamp

KEYS = ("entities", "features", "feature_service", "full_feature_names", "request_context")
NO_MOMENT = "1970-01-01T00:00:00Z"
_STATUSES = {"expired": "OUTSIDE_MAX_AGE", "unknown": "NOT_FOUND"}


@dataclass(frozen=True)
class FeastAsked:
    """What is asked, the columns as they were given, and whether names are `view__feature`."""

    asked: Asked
    columns: Mapping[str, Sequence[object]]
    full_names: bool


def feast_request(world: World, text: bytes, max_rows: int) -> FeastAsked:
    """POST /get-online-features; request data of on-demand features may come among the entities."""
    body = read_json(text, KEYS)
    service, features = body.get("feature_service"), body.get("features") or None
    if isinstance(service, str):
        served = world.service(service)
    elif service is None and isinstance(features, list) and all(isinstance(name, str) for name in features):
        served = world.features(tuple(features))
    else:
        message = "name one 'feature_service' or some 'features'"
        raise UsageError(message, at="feature_service")
    columns = {**_columns(body, "request_context"), **_columns(body, "entities")}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        message = "every entity column needs the same number of values"
        raise UsageError(message, at="entities")
    (count,) = lengths
    check_rows(count, max_rows)
    rows = [
        typed(served.reader, {name: values[place] for name, values in columns.items()}, {}, "entities")
        for place in range(count)
    ]
    full = body.get("full_feature_names", False)
    if not isinstance(full, bool):
        message = "'full_feature_names' is true or false"
        raise UsageError(message, at="full_feature_names")
    if not full:
        _refuse_collisions(served.reader.service)
    return FeastAsked(Asked(served, rows, None), columns, full)


def feast_answer(asked: FeastAsked, vectors: Sequence[Vector]) -> dict[str, object]:
    """Feast's response, column by column."""
    service, how = asked.asked.served.reader.service, asked.asked.served.spellings
    names, results = list(asked.columns), [_entity(values) for values in asked.columns.values()]
    values = [spelled(vector.features, how) for vector in vectors]
    for short, full, alias in _outputs(service):
        names.append(full if asked.full_names else short)
        results.append(_feature(full, alias, values, vectors))
    return {"metadata": {"feature_names": names}, "results": results}


def _columns(body: Mapping[str, Any], name: str) -> dict[str, list[object]]:
    found = body.get(name) or {}
    if not isinstance(found, dict) or not all(isinstance(values, list) for values in found.values()):
        message = f"'{name}' holds a list of values per name"
        raise UsageError(message, hint=f'"{name}": {{"user_id": [42, 43]}}', at=name)
    return found


def _outputs(service: Service) -> list[tuple[str, str, str | None]]:
    """(short name, full name, the view's alias; None for on-demand features) in order."""
    found: list[tuple[str, str, str | None]] = [
        (name, f"{member.alias}__{name}", member.alias)
        for member in service.views
        for name in member.features
    ]
    return found + [(feature.name, feature.name, None) for feature in service.on_demand]


def _refuse_collisions(service: Service) -> None:
    seen: set[str] = set()
    for short, _, _ in _outputs(service):
        if short in seen:
            message = f"two of the features are named '{short}'"
            raise UsageError(message, hint='ask with "full_feature_names": true', at="full_feature_names")
        seen.add(short)


def _entity(values: Sequence[object]) -> dict[str, object]:
    count = len(values)
    return {
        "values": list(values),
        "statuses": ["PRESENT"] * count,
        "event_timestamps": [NO_MOMENT] * count,
    }


def _feature(
    name: str, alias: str | None, values: Sequence[Mapping[str, object]], vectors: Sequence[Vector]
) -> dict[str, object]:
    return {
        "values": [row[name] for row in values],
        "statuses": [_status(vector, alias, row[name]) for vector, row in zip(vectors, values, strict=True)],
        "event_timestamps": [_moment(vector, alias) for vector in vectors],
    }


def _status(vector: Vector, alias: str | None, value: object) -> str:
    known = "present" if alias is None else vector.status[alias]
    return _STATUSES.get(known, "PRESENT" if value is not None else "NULL_VALUE")


def _moment(vector: Vector, alias: str | None) -> str:
    """The newest event behind the value."""
    age = None if alias is None else vector.age_us.get(alias)
    return NO_MOMENT if age is None else format_timestamp(vector.as_of_us - age)
