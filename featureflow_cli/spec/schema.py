"""JSON Schema for editors, made from the models: completion and squiggles while one writes the YAML."""

from typing import Any

from featureflow_cli.spec.models import Definitions, StoreConfig
from featureflow_cli.times import format_duration

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE: dict[str, Any] = {"type": "string", "pattern": r"^\$\{env:.+\}$"}


def store_schema() -> dict[str, Any]:
    """Schema of feature_store.yaml: the settings, and `targets` that each overlay some of them."""
    schema = _of(StoreConfig, "feature_store.yaml")
    partial = {"type": "object", "properties": dict(schema["properties"]), "additionalProperties": False}
    schema["$defs"]["Target"] = partial
    schema["properties"]["targets"] = {
        "type": "object",
        "description": "Overlays, merged key by key; a block that names another `type` starts afresh",
        "additionalProperties": {"$ref": "#/$defs/Target"},
    }
    return schema


def features_schema() -> dict[str, Any]:
    """Schema of every file under features/."""
    schema = _of(Definitions, "FeatureFlow definitions")
    column = schema["$defs"]["SourceColumn"]
    schema["$defs"]["SourceColumn"] = {
        "anyOf": [{"type": "string", "description": "a type, such as `int64 not null`"}, column]
    }
    feature = schema["$defs"]["Feature"]["properties"]
    for name in ("time_since_last", "time_since_first"):  # with nothing behind them: in seconds
        feature[name] = {"anyOf": [feature[name], {"type": "null"}]}
    # An emptied list (`entities:` with nothing behind it) is no mistake.
    schema["properties"] = {
        key: {"anyOf": [kind, {"type": "null"}]} for key, kind in schema["properties"].items()
    }
    return schema


def _of(model: type[StoreConfig] | type[Definitions], title: str) -> dict[str, Any]:
    schema: dict[str, Any] = _for_editors(model.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, **schema, "title": title}


def _for_editors(schema: Any) -> Any:
    """Without pydantic's titles and nulls; an environment variable may stand for any scalar."""
    if isinstance(schema, list):
        return [_for_editors(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in {"properties", "$defs"}:
            kept[key] = {name: _for_editors(each) for name, each in value.items()}
        elif not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None):
            kept[key] = _for_editors(value)
    members = [each for each in kept.get("anyOf", ()) if each != {"type": "null"}]
    if members:
        kept = {**kept, "anyOf": members} if len(members) > 1 else {**members[0], **_without(kept, "anyOf")}
    if kept.get("type") == "string" and isinstance(kept.get("default"), int):
        kept["default"] = format_duration(kept["default"])
    if kept.get("type") in {"integer", "number", "boolean"}:
        outer = {key: kept[key] for key in ("default", "description") if key in kept}
        return {**outer, "anyOf": [_without(kept, *outer), _VARIABLE]}
    return kept


def _without(schema: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in keys}
