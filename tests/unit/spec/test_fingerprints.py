"""A fingerprint changes with the meaning, and with nothing else."""

from typing import Any

import pytest

from featureflow_cli.spec.fingerprints import short, source_meaning, view_fingerprint
from featureflow_cli.spec.models import Entity, FeatureView, Source, StoreConfig

ENTITY: dict[str, Any] = {"name": "user", "join_keys": {"user_id": "int64"}}
SOURCE: dict[str, Any] = {
    "name": "events",
    "schema": {"user_id": "int64 not null", "amount": "decimal(18,2)", "id": "string", "t": "timestamp"},
    "timestamp_field": "t",
    "event_id": "id",
    "dedupe_within": "1h",
    "stream": {"files": {"path": "a.csv"}},
}
VIEW: dict[str, Any] = {
    "name": "activity",
    "entity": "user",
    "source": "events",
    "features": [
        {"name": "n_{window}", "count": "*", "where": "amount > 1", "windows": ["1h", "24h"]},
        {"name": "s_1h", "sum": "amount", "window": "1h"},
        {"name": "r", "rank": {"of": "n_1h"}, "refresh": "1m"},
    ],
}


def of_view(view: dict[str, Any], entity: dict[str, Any] = ENTITY, meaning: str = "m") -> str:
    return view_fingerprint(FeatureView.model_validate(view), Entity.model_validate(entity), meaning)


def of_source(source: dict[str, Any], **stream: str) -> str:
    config = StoreConfig.model_validate({"project": "p", "stream": stream})
    return source_meaning(Source.model_validate(source), config)


def feature(index: int, **changes: Any) -> dict[str, Any]:
    features = [dict(each) for each in VIEW["features"]]
    features[index] |= changes
    return VIEW | {"features": features}


@pytest.mark.parametrize(
    "same",
    [
        VIEW | {"description": "x", "owner": "y", "tags": {"a": "b"}},
        VIEW | {"features": VIEW["features"][::-1]},
        VIEW | {"ttl": "24h"},
        VIEW | {"ttl": "1d"},
        VIEW | {"join_keys": {"user_id": "user_id"}},
        feature(0, where="amount  >\n 1", description="x"),
        feature(0, windows=["24h", "1h"]),
        feature(1, window="60m", resolution="1m"),
        VIEW
        | {
            "features": [
                {"name": "n_1h", "count": "*", "where": "amount > 1", "window": "1h"},
                {"name": "n_24h", "count": "*", "where": "amount > 1", "window": "24h"},
                *VIEW["features"][1:],
            ]
        },
    ],
)
def test_the_same_meaning(same: dict[str, Any]) -> None:
    assert of_view(same) == of_view(VIEW)


@pytest.mark.parametrize(
    "other",
    [
        VIEW | {"ttl": "30d"},
        VIEW | {"where": "amount > 0"},
        VIEW | {"join_keys": {"user_id": "amount"}},
        VIEW | {"features": VIEW["features"][:2]},
        {key: value for key, value in VIEW.items() if key != "features"} | {"latest": ["amount"]},
        feature(0, where="amount > 2"),
        feature(0, windows=["1h", "7d"]),
        feature(0, count="amount"),
        feature(0, default=1),
        feature(1, resolution="exact"),
        feature(1, name="s"),
        feature(2, refresh="5m"),
        feature(2, rank={"of": "n_1h", "method": "percent_rank"}),
        feature(2, rank={"of": "n_24h"}),
    ],
)
def test_another_meaning(other: dict[str, Any]) -> None:
    assert of_view(other) != of_view(VIEW)


def test_text_in_quotes_is_meaning_to_the_last_blank() -> None:
    assert of_view(feature(0, where="x = 'a  b'")) != of_view(feature(0, where="x = 'a b'"))


def test_a_view_means_its_entity_and_its_source() -> None:
    assert of_view(VIEW, ENTITY | {"join_keys": {"user_id": "string"}}) != of_view(VIEW)
    assert of_view(VIEW, meaning="other") != of_view(VIEW)
    assert of_view(VIEW, ENTITY | {"description": "x"}) == of_view(VIEW)


@pytest.mark.parametrize(
    "same",
    [
        SOURCE | {"description": "x"},
        SOURCE | {"stream": {"files": {"path": "elsewhere.parquet"}}},
        SOURCE | {"schema": dict(reversed(SOURCE["schema"].items()))},
        SOURCE
        | {
            "schema": SOURCE["schema"]
            | {"id": "string not null", "amount": {"type": "decimal(18,2)", "from": "amount"}}
        },
    ],
)
def test_the_same_source(same: dict[str, Any]) -> None:
    assert of_source(same) == of_source(SOURCE)


@pytest.mark.parametrize(
    "other",
    [
        SOURCE | {"schema": SOURCE["schema"] | {"amount": "double"}},
        SOURCE | {"schema": SOURCE["schema"] | {"amount": "decimal(18,2) not null"}},
        SOURCE | {"schema": SOURCE["schema"] | {"amount": {"type": "decimal(18,2)", "from": "a.b"}}},
        SOURCE | {"schema": SOURCE["schema"] | {"more": "string"}},
        SOURCE | {"timestamp_format": "epoch_s"},
        SOURCE | {"event_id": None, "dedupe_within": None},
        SOURCE | {"dedupe_within": "2h"},
        SOURCE | {"batch": {"path": "x.csv", "until": "2026-01-01"}},
        SOURCE | {"stream": None, "batch": {"path": "x.csv"}},
    ],
)
def test_another_source(other: dict[str, Any]) -> None:
    assert of_source(other) != of_source(SOURCE)


def test_what_is_too_far_ahead_decides_too() -> None:
    assert of_source(SOURCE, allowed_future="2m") != of_source(SOURCE)


def test_fingerprints_never_change_with_a_version_of_ours() -> None:
    """States in users' stores carry them: a change here rebuilds every state there is."""
    assert short(of_source(SOURCE)) == "90dc2ff72458"
    assert short(of_view(VIEW)) == "e8fa75ff321b"
