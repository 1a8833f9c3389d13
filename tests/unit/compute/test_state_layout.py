"""A view's state is laid out by its meaning: spellings with one fingerprint can read each other's states."""

from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.spec import models

SOURCE = {
    "name": "events",
    "schema": {"user_id": "int64", "kind": "string", "amount": "decimal(9,2)", "at": "timestamp"},
    "timestamp_field": "at",
    "stream": {"files": {"path": "events/*.parquet"}},
}
FEATURES = [
    {"name": "n_{window}", "count": "*", "where": "kind = 'a'", "windows": ["1h", "24h"]},
    {"name": "total_1h", "sum": "amount", "where": "kind = 'b'", "window": "1h"},
    {"name": "kinds", "top_k": {"of": "kind", "k": 2}, "window": "24h"},
    {"name": "share", "rank": {"of": "n_1h"}, "refresh": "1m"},
    {"name": "least", "min": "amount", "where": "kind = 'a'", "window": "forever"},
]


def compiled(features: list[dict[str, object]]):
    definitions = models.Definitions.model_validate(
        {
            "entities": [{"name": "user", "join_keys": {"user_id": "int64"}}],
            "sources": [SOURCE],
            "feature_views": [{"name": "v", "entity": "user", "source": "events", "features": features}],
        }
    )
    return compile_repo(models.StoreConfig(project="p"), definitions).views["v"]


@given(st.permutations(FEATURES), st.permutations(["1h", "24h"]))
def test_the_order_of_features_and_windows_does_not_move_a_state_column(features, windows):
    features = [{**one, "windows": windows} if "windows" in one else one for one in features]
    one, other = compiled(FEATURES), compiled(features)
    assert one.fingerprint == other.fingerprint
    assert (one.columns, one.masks, one.operands) == (other.columns, other.masks, other.operands)
    assert sorted(one.features, key=lambda feature: feature.name) == sorted(
        other.features, key=lambda feature: feature.name
    )


def test_features_are_answered_in_the_order_written():
    assert [name for name, _ in compiled(FEATURES).outputs] == [
        "n_1h",
        "n_24h",
        "total_1h",
        "kinds",
        "share",
        "least",
    ]
