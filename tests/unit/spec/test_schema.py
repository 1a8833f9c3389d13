"""The JSON Schema that editors use says what the models say."""

import re
from pathlib import Path
from typing import Any

import pytest

from featureflow_cli.spec.models import AGGREGATIONS
from featureflow_cli.spec.places import YamlFile
from featureflow_cli.spec.reading import read
from featureflow_cli.spec.schema import features_schema, store_schema

SHOP = Path(__file__).parent / "shop"
GOLDEN = Path(__file__).parent / "golden"
KINDS = {"object": dict, "array": list, "string": str, "null": type(None), "boolean": bool, "integer": int}


def plain(path: Path) -> Any:
    node, _ = read(YamlFile(path.name, path.read_text(encoding="utf-8")))
    assert node is not None
    return node.plain()


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "") -> list[str]:
    """Where the value does not fit: as much of a JSON Schema validator as these schemas need."""
    if "$ref" in schema:
        return faults(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, at)
    if "anyOf" in schema:
        found = [faults(value, each, root, at) for each in schema["anyOf"]]
        return [] if [] in found else max(found, key=lambda each: max(map(len, each)))
    kind = schema.get("type")
    if kind == "number":
        return [] if isinstance(value, (int, float)) else [at]
    if kind and (not isinstance(value, KINDS[kind]) or (kind == "integer" and isinstance(value, bool))):
        return [at]
    if ("enum" in schema and value not in schema["enum"]) or ("const" in schema and value != schema["const"]):
        return [at]
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return [at]
    if kind == "array":
        items = schema.get("items", {})
        return [fault for n, item in enumerate(value) for fault in faults(item, items, root, f"{at}[{n}]")]
    return object_faults(value, schema, root, at) if kind == "object" else []


def object_faults(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> list[str]:
    found = [f"{at}.{name}" for name in schema.get("required", ()) if name not in value]
    patterns = schema.get("patternProperties", {})
    for name, item in value.items():
        fallback = next((each for pattern, each in patterns.items() if re.search(pattern, name)), None)
        below = schema.get("properties", {}).get(name, fallback or schema.get("additionalProperties", {}))
        if below is False:
            found.append(f"{at}.{name}")
        elif below is not True:
            found += faults(item, below, root, f"{at}.{name}")
    return found


def test_the_shop_fits() -> None:
    assert faults(plain(SHOP / "feature_store.yaml"), store_schema(), store_schema()) == []
    for path in (SHOP / "features").rglob("*.y*ml"):
        assert faults(plain(path), features_schema(), features_schema()) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("entities: [{name: a, join_key: {}}]", ".entities[0].join_keys"),
        ("feature_views: [{name: a, entity: e, source: s, features: [{name: x, cuont: '*'}]}]",
         ".feature_views[0].features[0].cuont"),
        ("entitys: []", ".entitys"),
        ("sources: [{name: s, timestamp_field: t, schema: {t: {type: timestamp, format: iso}}}]",
         ".sources[0].schema.t.format"),
    ],
)  # fmt: skip
def test_faults_are_seen(text: str, fault: str) -> None:
    node, _ = read(YamlFile("x.yaml", text))
    assert node is not None
    assert fault in faults(node.plain(), features_schema(), features_schema())


def test_a_column_may_be_short_and_a_duration_may_be_bare() -> None:
    short = {
        "sources": [
            {"name": "s", "timestamp_field": "t", "schema": {"t": "timestamp", "u": {"type": "int64"}}}
        ]
    }
    assert faults(short, features_schema(), features_schema()) == []
    bare = {"name": "x", "time_since_last": None, "window": "1h"}
    view = {"feature_views": [{"name": "v", "entity": "e", "source": "s", "features": [bare]}]}
    assert faults(view, features_schema(), features_schema()) == []


def test_every_aggregation_is_offered() -> None:
    assert set(AGGREGATIONS) <= set(features_schema()["$defs"]["Feature"]["properties"])


def test_defaults_are_shown_as_they_are_written() -> None:
    stream = store_schema()["$defs"]["StreamConfig"]["properties"]
    assert stream["commit_interval"]["default"] == "5s"
