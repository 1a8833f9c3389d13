"""The definitions that simulated workers run on: four of them, compiled once.

Every view counts each event's own number (`top_k` over integers), so a state is the multiset of the events in it:
what is lost and what is counted twice can be told from it by name.
"""

import tempfile
from functools import cache
from pathlib import Path

from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.compute.views import Repo, View
from featureflow_cli.spec.models import StoreConfig
from featureflow_cli.spec.repo import load
from featureflow_cli.times import HOUR_US

TTL_US, RUNG_US, WITHIN_US, AHEAD_US = 24 * HOUR_US, 6 * HOUR_US, 8 * HOUR_US, 2 * HOUR_US
PARTITION_NUMBERS = 10_000
"""An event's number is its partition times this, and its offset."""

_STORE = """
version: 1
project: sim
registry: registry.db
online_store: {type: sqlite, path: online.db}
offline_store: {type: delta, path: offline}
stream: {allowed_future: 2h}
"""
_FEATURES = """
entities:
  - {name: user, join_keys: {user: int64}}
  - {name: item, join_keys: {item: int64}}
sources:
  - name: events
    schema: {id: string, user: int64 not null, item: int64 not null, number: int64 not null, old: int64 STRICT_OLD,
             new: int64 STRICT_NEW, at: timestamp}
    timestamp_field: at
    event_id: id
    dedupe_within: 8h
    stream: {files: {path: "events/*.ndjson"}}
feature_views:
  - {name: ua, entity: user, source: events, ttl: 1d, features: [RECENT]}
  - {name: uh, entity: user, source: events, features: [ALL]}
  - {name: ia, entity: item, source: events, ttl: 1d, features: [RECENT]}
"""
_RECENT = "{name: seen, top_k: {of: number, k: 2}, window: 24h, resolution: 6h}"
_ALL = "{name: seen, top_k: {of: number, k: 2}, window: forever}"
_N = "  - {name: n, entity: ENTITY, source: events, features: [TOP_THREE]}"
_TOP_THREE = "{name: seen, top_k: {of: number, k: 3}, window: forever}"
ENTITIES = ("", "user", "item")


@cache
def variants() -> dict[str, Repo]:
    """By name: `MEANING/N`. Meaning `old` refuses what has no `old`, `new` what has no `new`; N is the entity of the
    view `n`, or nothing where there is no such view."""
    return {
        f"{meaning}/{entity}": _compiled(meaning, entity)[1]
        for meaning in ("old", "new")
        for entity in ENTITIES
    }


@cache
def config() -> StoreConfig:
    return _compiled("old", "")[0]


@cache
def views() -> tuple[View, ...]:
    """All views of all variants, each once by fingerprint."""
    return tuple(
        {view.fingerprint: view for repo in variants().values() for view in repo.views.values()}.values()
    )


def _compiled(meaning: str, entity: str) -> tuple[StoreConfig, Repo]:
    text = _FEATURES
    for name in ("old", "new"):
        text = text.replace(f"STRICT_{name.upper()}", "not null" if name == meaning else "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "features").mkdir()
        (folder / "feature_store.yaml").write_text(_STORE)
        text = text.replace("RECENT", _RECENT).replace("ALL", _ALL)
        if entity:
            text += _N.replace("ENTITY", entity).replace("TOP_THREE", _TOP_THREE)
        (folder / "features" / "all.yaml").write_text(text)
        loaded = load(folder, None, {})
        return loaded.config, compile_repo(loaded.config, loaded.definitions)
