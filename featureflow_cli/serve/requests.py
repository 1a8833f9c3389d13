"""Requests as they come in, read into what they ask for; whatever is wrong with one names its place (`at`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from featureflow_cli.errors import FeatureflowError, NotFound, UsageError, did_you_mean
from featureflow_cli.evaluate.asking import Row
from featureflow_cli.evaluate.vector import Reader
from featureflow_cli.serve.world import Served, World
from featureflow_cli.spec.types import Value
from featureflow_cli.times import parse_timestamp

VECTOR_KEYS = ("service", "features", "entities", "request", "as_of")


class TooLarge(UsageError):
    """More than this server takes in one request."""

    http_status = 413
    code = "too_large"


class NotJson(UsageError):
    """The body is no JSON, or no object."""

    http_status = 400
    code = "invalid_json"


@dataclass(frozen=True)
class Asked:
    """What is to be read, and the typed rows to read it for; `as_of_us` None: now."""

    served: Served
    rows: Sequence[Mapping[str, Value]]
    as_of_us: int | None


def read_json(text: bytes, known: Iterable[str]) -> dict[str, Any]:
    """The body, an object with no other keys than those."""
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError as err:
        message = f"the body is not JSON: {err}"
        raise NotJson(message, at="body") from err
    if not isinstance(body, dict):
        message = "the body is not a JSON object"
        raise NotJson(message, hint=f"known keys: {', '.join(known)}", at="body")
    for name in body:
        if name not in known:
            message = f"unknown key '{name}'"
            raise UsageError(
                message, hint=did_you_mean(name, known) or f"known keys: {', '.join(known)}", at=name
            )
    return body


def vector_request(world: World, text: bytes) -> Asked:
    """POST /features/vector."""
    body = read_json(text, VECTOR_KEYS)
    served = _served(world, body)
    entities, request = _object(body, "entities"), _object(body, "request")
    row = typed(served.reader, entities, request, "entities")
    return Asked(served, [row], _as_of(body))


def batch_request(world: World, text: bytes, max_rows: int) -> Asked:
    """POST /features/batch: the same `request` for every row, unless a row has the column itself."""
    body = read_json(text, VECTOR_KEYS)
    served = _served(world, body)
    entities, request = body.get("entities"), _object(body, "request")
    if not isinstance(entities, list) or not all(isinstance(row, dict) for row in entities):
        message = "'entities' is a list of objects, one a row"
        raise UsageError(message, hint='"entities": [{"user_id": 42, "item_id": 7}]', at="entities")
    check_rows(len(entities), max_rows)
    rows = [typed(served.reader, row, request, f"entities[{place}]") for place, row in enumerate(entities)]
    return Asked(served, rows, _as_of(body))


def check_rows(count: int, most: int) -> None:
    if count > most:
        message = f"{count:,} rows in one request: this server takes {most:,}"
        raise TooLarge(message, hint="split the batch", at="entities")


def path_request(world: World, entity: str, id: str | None, query: Sequence[tuple[str, str]]) -> Asked:
    """GET /features/ENTITY/ID?…: other names in the query are join keys and request columns."""
    world.require_entity(entity)
    keys = [key.name for key in world.repo.entities[entity]]
    row: dict[str, object] = {}
    if id is not None:
        if len(keys) != 1:
            message = f"entity '{entity}' has the join keys {', '.join(keys)}"
            raise UsageError(
                message, hint=f"GET /features/{entity}?{'&'.join(f'{key}=…' for key in keys)}", at="id"
            )
        row[keys[0]] = id
    said: dict[str, list[str]] = {}
    for name, value in query:
        said.setdefault(name, []).append(value)
    if id is not None and keys[0] in said:
        message = f"'{keys[0]}' stands in the path and in the query"
        raise UsageError(message, at=keys[0])
    row |= {name: values[-1] for name, values in said.items() if name not in {"service", "features", "as_of"}}
    if "service" in said and "features" in said:
        message = "name one 'service' or some 'features'"
        raise UsageError(message, at="service")
    if "service" in said:
        served = world.service(said["service"][-1])
    elif "features" in said:
        names = [name.strip() for text in said["features"] for name in text.split(",")]
        served = world.features(tuple(name for name in names if name))
    else:
        served = world.entity(entity)
    return Asked(
        served, [served.reader.typed(row)], _as_of({name: values[-1] for name, values in said.items()})
    )


def typed(reader: Reader, entities: Row, request: Row, place: str) -> dict[str, Value]:
    """A row in its types; an error's `at` says where in the body it is."""
    try:
        return reader.typed({**request, **entities} if request else entities)
    except UsageError as err:
        inside = err.at in request and err.at not in entities
        wanted = err.at in reader.expected.request and err.at not in entities
        err.at = f"request.{err.at}" if inside or wanted else f"{place}.{err.at}"
        raise


def status_of(err: FeatureflowError, method: str) -> int:
    """A name that is not there is 404 in a path, 422 in a body."""
    return 422 if isinstance(err, NotFound) and method == "POST" else err.http_status


def _served(world: World, body: Mapping[str, Any]) -> Served:
    service, features = body.get("service"), body.get("features")
    if (service is None) == (features is None):
        message = "name one 'service' or some 'features'"
        raise UsageError(
            message, hint='"service": "NAME", or "features": ["VIEW:FEATURE", "VIEW:*"]', at="service"
        )
    if service is not None:
        if not isinstance(service, str):
            message = "'service' is a name"
            raise UsageError(message, at="service")
        return world.service(service)
    if not isinstance(features, list) or not features or not all(isinstance(name, str) for name in features):
        message = "'features' is a list of names, not empty"
        raise UsageError(message, hint='"features": ["VIEW:FEATURE", "VIEW:*"]', at="features")
    return world.features(tuple(features))


def _object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        message = f"'{name}' is an object"
        raise UsageError(message, hint=f'"{name}": {{"user_id": 42}}' if name == "entities" else "", at=name)
    return found


def _as_of(body: Mapping[str, Any]) -> int | None:
    written = body.get("as_of")
    if written is None:
        return None
    try:
        return parse_timestamp(written if isinstance(written, str) else str(written))
    except ValueError as err:
        message = f"'as_of': {err}"
        raise UsageError(message, hint="2026-01-01T10:00:00Z", at="as_of") from err
