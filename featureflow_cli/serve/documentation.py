"""What the server says about itself: OpenAPI 3.1, and a page that needs nothing from any other server."""

import json
from html import escape
from typing import Any

from featureflow_cli.serve.world import World
from featureflow_cli.spec.types import ColumnType, Value

_Json = dict[str, Any]
_KINDS: dict[str, tuple[str, str | None]] = {
    "bool": ("boolean", None),
    "int64": ("integer", "int64"),
    "double": ("number", "double"),
    "decimal": ("string", "decimal"),
    "timestamp": ("string", "date-time"),
    "date": ("string", "date"),
}


def openapi(world: World) -> _Json:
    """The description of the endpoints, with the applied services' outputs as schemas."""
    row, outputs = _example(world)
    features = {"type": "array", "items": {"type": "string"}, "example": ["VIEW:FEATURE", "VIEW:*"]}
    asked: _Json = {
        "service": {"type": "string", "description": "A feature service; or name some features."},
        "features": features,
        "request": {
            "type": "object",
            "description": "Columns that on-demand features take from the request.",
        },
        "as_of": {
            "type": "string",
            "format": "date-time",
            "description": "Exact; not before the newest event held. Leave it out to ask for now.",
        },
    }
    example: _Json = {"service": next(iter(world.repo.services), "NAME"), "entities": row}
    vector = _post("Read one vector", {**asked, "entities": {"type": "object"}}, example, "Vector")
    batch = _post(
        "Read many vectors, answered in the request's order",
        {**asked, "entities": {"type": "array", "items": {"type": "object"}}},
        {**example, "entities": [row]},
        "Batch",
    )
    columns = {name: [value] for name, value in row.items()}
    feast = _post(
        "Feast's own endpoint",
        {
            "feature_service": {"type": "string"},
            "features": features,
            "entities": {"type": "object", "additionalProperties": {"type": "array"}},
            "full_feature_names": {"type": "boolean", "default": False},
        },
        {"feature_service": example["service"], "entities": columns},
        "FeastAnswer",
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"FeatureFlow: {world.repo.project}",
            "version": str(world.version),
            "description": "Feature vectors, evaluated at the moment of reading.",
        },
        "paths": {
            "/features/vector": {"post": vector},
            "/features/batch": {"post": batch},
            "/features/{entity}/{id}": {
                "get": _get("Read one entity (all its views, or features=… or service=…)", ["entity", "id"])
            },
            "/features/{entity}": {
                "get": _get("The same for an entity of several join keys, given in the query", ["entity"])
            },
            "/get-online-features": {"post": feast},
            "/registry": {"get": _plain("What is applied and served")},
            "/health": {"get": _plain("Whether the process answers")},
            "/ready": {"get": _plain("Whether every applied view can be read; 503 and why, where not")},
            "/metrics": {"get": _plain("Prometheus metrics", "text/plain")},
        },
        "components": {"schemas": _schemas(outputs)},
    }


def page(world: World) -> str:
    """The endpoints with an example of each, as HTML without a script, a font or an image."""
    spec = openapi(world)
    sections = []
    for path, verbs in spec["paths"].items():
        for verb, operation in verbs.items():
            title = (
                f"<h2><code>{verb.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}</p>"
            )
            sections.append(title + _curl(verb, path, operation))
    services = "".join(
        f"<h3>{escape(name)}</h3><table>{_rows(service.outputs)}</table>"
        for name, service in world.repo.services.items()
    )
    return _PAGE.format(
        project=escape(world.repo.project),
        version=world.version,
        sections="\n".join(sections),
        services=services or "<p>No feature service is defined; ask for features by name.</p>",
    )


def _example(world: World) -> tuple[dict[str, object], tuple[tuple[str, ColumnType], ...]]:
    """(an entity row, the outputs) of the first service."""
    service = next(iter(world.repo.services.values()), None)
    if service is None:
        return {"user_id": 42}, ()
    samples: dict[str, Value] = {"int64": 42, "bool": True, "double": 0.5}
    row: dict[str, object] = {
        member.join_keys.get(key.name, key.name): samples.get(key.type.name, "a1")
        for member in service.views
        for key in member.view.join_keys
    }
    return row, service.outputs


def _schemas(outputs: tuple[tuple[str, ColumnType], ...]) -> _Json:
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    vector: _Json = {
        "type": "object",
        "properties": {
            "features": {
                "type": "object",
                "description": "By VIEW__FEATURE, and on-demand features by name.",
                "properties": {name: _schema(column_type) for name, column_type in outputs},
            },
            "status": {**texts, "description": "Per view: present, expired or unknown."},
            "reasons": {**texts, "description": "Features that are null for a reason of their own."},
            "age_ms": {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "description": "Per view: as_of less its newest event.",
            },
            "as_of": {"type": "string", "format": "date-time"},
            "registry_version": {"type": "integer"},
        },
    }
    text = {"type": "string"}
    return {
        "Vector": vector,
        "Batch": {
            "type": "object",
            "properties": {
                "results": {"type": "array", "items": {"$ref": "#/components/schemas/Vector"}},
                "registry_version": {"type": "integer"},
            },
        },
        "FeastAnswer": {
            "type": "object",
            "properties": {"metadata": {"type": "object"}, "results": {"type": "array"}},
        },
        "Error": {
            "type": "object",
            "properties": {
                "error": {
                    "type": "object",
                    "properties": {"code": text, "message": text, "hint": text, "at": text},
                }
            },
        },
    }


def _schema(column_type: ColumnType) -> _Json:
    """A value that may be null."""
    if column_type.element is not None:
        return {"type": ["array", "null"], "items": _schema(column_type.element)}
    kind, form = _KINDS.get(column_type.name, ("string", None))
    return {"type": [kind, "null"]} | ({"format": form} if form else {})


def _post(summary: str, properties: _Json, example: _Json, answer: str) -> _Json:
    schema = {"type": "object", "properties": properties, "required": ["entities"]}
    body = {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}
    return {"summary": summary, "requestBody": body, "responses": _responses(answer)}


def _get(summary: str, names: list[str]) -> _Json:
    text = {"type": "string"}
    path = [{"name": name, "in": "path", "required": True, "schema": text} for name in names]
    query = [{"name": name, "in": "query", "schema": text} for name in ("features", "service", "as_of")]
    return {"summary": summary, "parameters": [*path, *query], "responses": _responses("Vector")}


def _plain(summary: str, media: str = "application/json") -> _Json:
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": {media: {}}}}}


def _responses(answer: str) -> _Json:
    def content(name: str) -> _Json:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    return {
        "200": {"description": "OK", "content": content(answer)},
        "4XX": {"description": "The request is wrong; `at` says where", "content": content("Error")},
        "503": {"description": "Try again after Retry-After seconds", "content": content("Error")},
    }


def _curl(verb: str, path: str, operation: _Json) -> str:
    if verb == "get":
        return f"<pre>curl localhost:6566{escape(path)}</pre>" if "{" not in path else ""
    example = operation["requestBody"]["content"]["application/json"]["example"]
    return f"<pre>curl localhost:6566{escape(path)} -d '{escape(json.dumps(example))}'</pre>"


def _rows(outputs: tuple[tuple[str, ColumnType], ...]) -> str:
    return "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(str(column_type))}</td></tr>"
        for name, column_type in outputs
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{project}: feature server</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }}
 pre {{ background: #f4f4f5; padding: .7rem; overflow-x: auto; border-radius: 4px; }}
 h2 {{ font-size: 1.05rem; margin: 1.8rem 0 .2rem; }} h3 {{ font-size: 1rem; }}
 td {{ padding-right: 2rem; }}
 @media (prefers-color-scheme: dark) {{ body {{ background: #18181b; color: #e4e4e7; }}
  pre {{ background: #27272a; }} a {{ color: #93c5fd; }} }}
</style></head><body>
<h1>{project}</h1>
<p>Feature vectors, evaluated at the moment of reading. Applied version {version}.
Machine-readable: <a href="/openapi.json">openapi.json</a>, <a href="/registry">registry</a>,
<a href="/metrics">metrics</a>.</p>
{sections}
<h2>Services</h2>
{services}
</body></html>
"""
