"""Fingerprints of meaning: equal where every answer is equal by definition (design.md 4 [meaning], 9).

Descriptions, owners, tags, the order of features and columns, and blanks in expressions are not meaning; what
a default stands for is. The canonical form is JSON of our own words, so no library's new version changes it.
"""

import hashlib
import json
import re
from typing import Any

from featureflow_cli.spec.fields import FOREVER
from featureflow_cli.spec.ladder import default_resolution
from featureflow_cli.spec.models import Entity, Feature, FeatureView, Source, StoreConfig
from featureflow_cli.times import parse_duration, parse_timestamp

SHORT = 12
DEFAULT_MAX_KEYS = 4096
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|[^\w\s]""")


def source_meaning(source: Source, config: StoreConfig) -> str:
    """Fingerprint of what decides an event's fate and its columns: sha256 in hex."""
    return _sha256(
        {
            "source": source.name,
            "columns": {
                name: {
                    "type": str(column.type),
                    "from": column.from_ or name,
                    "format": (column.format or source.timestamp_format)
                    if column.type.name == "timestamp"
                    else "",
                    "not_null": column.not_null or name in {source.timestamp_field, source.event_id},
                }
                for name, column in source.columns.items()
            },
            "timestamp_field": source.timestamp_field,
            "created_timestamp": source.created_timestamp,
            "event_id": source.event_id,
            "dedupe_within": source.dedupe_within or 0,
            "allowed_future": config.stream.allowed_future,
            "streamed": source.stream is not None,
            "until": parse_timestamp(source.batch.until) if source.batch and source.batch.until else None,
        }
    )


def view_fingerprint(view: FeatureView, entity: Entity, meaning: str) -> str:
    """Fingerprint of what a view means, given its source's `source_meaning`: sha256 in hex."""
    features = [_feature(feature, text) for feature in view.features or () for text in windows_of(feature)]
    return _sha256(
        {
            "entity": entity.name,
            "join_keys": [
                [key, str(key_type), view.join_keys.get(key, key)]
                for key, key_type in entity.join_keys.items()
            ],
            "source": meaning,
            "where": _words(view.where),
            "ttl": FOREVER if (ttl := ttl_us(view)) is None else ttl,
            "features": sorted(features, key=lambda feature: str(feature["name"])),
            "latest": list(view.latest or ()),  # in order: ties are broken by the row as text
            "deleted": _words(view.deleted),
        }
    )


def short(fingerprint: str) -> str:
    """The first twelve digits: for names of fields and for people."""
    return fingerprint[:SHORT]


def windows_of(feature: Feature) -> tuple[str, ...]:
    """The windows as written; one empty text for a rank, which has those of its `of`."""
    return feature.windows or (feature.window or "",)


def ttl_us(view: FeatureView) -> int | None:
    """How long entities stay known; None: forever. Where none is written, the widest window (design.md 1.10, 1.16)."""
    if view.ttl is not None:
        return None if view.ttl == FOREVER else int(view.ttl)
    windows = [text for feature in view.features or () for text in windows_of(feature) if text]
    if view.latest is not None or FOREVER in windows:
        return None
    return max((parse_duration(text) for text in windows), default=0)


def expanded_name(feature: Feature, window: str) -> str:
    """The feature's name over that window: `purchases_{window}` -> `purchases_1h`."""
    return feature.name.replace("{window}", window)


def _feature(feature: Feature, window: str) -> dict[str, Any]:
    """One feature over one window, with what its defaults stand for."""
    width_us = parse_duration(window) if window not in {"", FOREVER} else None
    name = feature.aggregation
    what = getattr(feature, name)
    return {
        "name": expanded_name(feature, window),
        "aggregation": name,
        "of": _words(what) if isinstance(what, str) else _operands(what.model_dump()),
        "where": _words(feature.where),
        "window": width_us if width_us is not None else window,
        "resolution": _resolution(feature.resolution, width_us),
        "default": feature.default,
        "refresh": feature.refresh,
        "half_life": feature.half_life,
        "max_keys": feature.max_keys or DEFAULT_MAX_KEYS,
    }


def _operands(parts: dict[str, Any]) -> dict[str, Any]:
    """The parts of `top_k`, `ratio` and the like; their expressions without blanks."""
    expressions = {"of", "to", "by", "count", "sum", "where"}
    return {
        key: _operands(part) if isinstance(part, dict) else _words(part) if key in expressions else part
        for key, part in parts.items()
    }


def _resolution(written: str | None, width_us: int | None) -> int | None:
    if width_us is None:
        return None
    if written is None:
        return default_resolution(width_us)
    return 1 if written == "exact" else parse_duration(written)


def _words(expression: str | None) -> str | None:
    """An expression's words with one blank between them."""
    return None if expression is None else " ".join(_TOKEN.findall(expression))


def _sha256(meaning: dict[str, Any]) -> str:
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
