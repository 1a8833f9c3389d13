"""The Python API over the example shop: what goes in, what comes out, and what is refused."""

import re
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from featureflow_cli import (
    ConsistencyChecker,
    FeatureflowError,
    FeatureService,
    FeatureStore,
    NotFound,
    PointInTimeDatasetBuilder,
    StoreUnavailable,
    UsageError,
)
from featureflow_cli.cli.main import app
from featureflow_cli.generate.files import generate
from featureflow_cli.generate.shop import Scale
from featureflow_cli.init.templates import create
from featureflow_cli.stream.run import run
from featureflow_cli.times import DAY_US, MINUTE_US, parse_timestamp

END_US = parse_timestamp("2026-01-08")
SHOP = Scale(events=3_000, users=60, items=20, span_us=2 * DAY_US, end_us=END_US)
PAGE = Path(__file__).parents[2] / "docs/python.md"


def clock() -> int:
    return END_US + MINUTE_US


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    root = tmp_path_factory.mktemp("api") / "shop"
    create(root, "ecommerce")
    generate(SHOP, root / "data/events", files=2, labels=150, labels_out=root / "data/labels.parquet")
    with FeatureStore(root, environ={}, clock=clock) as opened:
        opened.apply()
        run(opened.project, once=True, stop=threading.Event())
        yield opened


@pytest.fixture(scope="module")
def labels(store: FeatureStore) -> pa.Table:
    return pq.read_table(store.project.root / "data/labels.parquet")


@pytest.fixture(scope="module")
def builder(store: FeatureStore) -> PointInTimeDatasetBuilder:
    return PointInTimeDatasetBuilder(store.offline_store, store.registry)


@pytest.fixture(scope="module")
def frame(store: FeatureStore, labels: pa.Table) -> pd.DataFrame:
    return store.get_historical_features(labels, "ranking_v1").to_df()


def test_a_plan_is_what_apply_does(tmp_path: Path):
    create(tmp_path / "shop", "ecommerce")
    store = FeatureStore(tmp_path / "shop", environ={})
    with pytest.raises(UsageError, match="nothing is applied yet"):
        store.registry.list_entities()
    plan = store.plan()
    assert "9 to add, 0 to change, 0 to remove." in str(plan)
    assert plan.to_dict()["summary"]["add"] == len(plan.changes) == 9
    assert store.apply(plan).version == 1
    assert store.plan().is_empty
    assert store.apply().version == 1
    shop = tmp_path / "shop/features/users.yaml"
    shop.write_text(shop.read_text().replace("description: A user's whole past", "description: All of it"))
    assert [change.name for change in store.plan().changes] == ["user_history"]
    assert store.apply().version == store.registry.version == 2
    assert store.registry.get_feature_view("user_history").description == "All of it"
    with pytest.raises(StoreUnavailable, match="is not built yet"):
        store.get_online_features("ranking_v1", [{"user_id": 1, "item_id": 1}])


def as_pandas(labels: pa.Table, folder: Path) -> object:
    return labels.to_pandas()


def as_naive_nanoseconds(labels: pa.Table, folder: Path) -> object:
    frame = labels.to_pandas()
    frame["timestamp"] = frame["timestamp"].dt.tz_localize(None).astype("datetime64[ns]")
    return frame.sample(frac=1, random_state=0).sort_values(["timestamp", "user_id", "item_id"])


def as_dicts(labels: pa.Table, folder: Path) -> object:
    return labels.to_pylist()


def as_lists(labels: pa.Table, folder: Path) -> object:
    return labels.to_pydict()


def as_feast_names_it(labels: pa.Table, folder: Path) -> object:
    return labels.rename_columns(
        ["event_timestamp" if name == "timestamp" else name for name in labels.column_names]
    )


def as_a_path(labels: pa.Table, folder: Path) -> object:
    pq.write_table(labels, folder / "labels.parquet")
    return folder / "labels.parquet"


@pytest.mark.parametrize(
    "given", [as_pandas, as_naive_nanoseconds, as_dicts, as_lists, as_feast_names_it, as_a_path]
)
def test_entity_rows_may_come_in_any_shape(
    store: FeatureStore,
    labels: pa.Table,
    tmp_path: Path,
    given: Callable[[pa.Table, Path], object],
):
    labels = labels.sort_by([("timestamp", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")])
    expected = store.get_historical_features(labels, "ranking_v1", audit=False).to_arrow()
    made = store.get_historical_features(given(labels, tmp_path), "ranking_v1", audit=False).to_arrow()
    outputs = [name for name, _ in store.project.repo.services["ranking_v1"].outputs]
    assert made.select(outputs).equals(expected.select(outputs))
    assert made.num_rows > 100


def test_a_training_set_loses_no_digit_in_pandas(frame: pd.DataFrame, store: FeatureStore, labels: pa.Table):
    assert store.get_historical_features(labels, "ranking_v1").report.line.startswith(
        "LeakageReport [PASSED]"
    )
    spent = [value for value in frame["user_activity__total_spend_24h"] if value]
    assert spent
    assert all(isinstance(value, Decimal) for value in spent)
    stranger = [{"user_id": 2**53 + 1, "item_id": None, "timestamp": "2026-01-07"}]
    rows = [*labels.select(["user_id", "item_id"]).slice(0, 1).to_pylist(), *stranger]
    rows[0]["timestamp"] = "2026-01-07"
    kept = store.get_historical_features(rows, "ranking_v1", cold_start="keep").to_df()
    assert kept["user_id"].tolist()[1] == 2**53 + 1
    assert str(kept["user_activity__purchase_count_1h"].dtype) == "Int64"
    assert kept["user_activity__purchase_count_1h"].isna().tolist() == [False, True]
    with pytest.raises(UsageError, match="cold_start is"):
        store.get_historical_features(rows, "ranking_v1", cold_start="maybe")  # type: ignore[arg-type]


def test_features_are_asked_for_by_service_by_name_or_by_list(store: FeatureStore, labels: pa.Table):
    service = store.registry.get_feature_service("ranking_v1")
    own = FeatureService.model_validate(
        {"name": "own", "features": ["user_history:*"], "required_entities": []}
    )
    by_name = store.get_historical_features(labels, "ranking_v1", audit=False).to_arrow()
    assert store.get_historical_features(labels, service, audit=False).to_arrow().equals(by_name)
    assert store.get_historical_features(labels, own, audit=False).to_arrow().num_rows == labels.num_rows
    short = store.get_historical_features(
        labels, ["user_history:*", "item_history:avg_rating"], full_feature_names=False, audit=False
    ).to_arrow()
    assert short.column_names[-3:] == ["avg_session_duration", "days_since_last_purchase", "avg_rating"]
    with pytest.raises(UsageError, match="several columns would be named purchase_count_24h"):
        store.get_historical_features(labels, service, full_feature_names=False, audit=False)
    with pytest.raises(NotFound, match="did you mean 'ranking_v1'"):
        store.get_historical_features(labels, "rankin_v1")
    with pytest.raises(UsageError, match="no features are asked for"):
        store.get_historical_features(labels, [])


def test_online_features_are_columns_of_the_declared_types(store: FeatureStore):
    rows = [{"user_id": 1, "item_id": 2}, {"user_id": 10**9, "item_id": 2}]
    found = store.get_online_features("ranking_v1", rows)
    columns = found.to_dict()
    assert columns["user_id"] == [1, 10**9]
    assert columns["user_activity__item_view_count_24h"][1] is None
    assert isinstance(columns["item_activity__revenue_24h"][0], Decimal)
    assert found.to_arrow().schema.field("item_activity__revenue_24h").type == pa.decimal128(38, 2)
    assert [vector.status["user_activity"] for vector in found.vectors] == ["present", "unknown"]
    again = store.get_online_features("ranking_v1", pd.DataFrame(rows), as_of="2026-01-08T00:01:00Z")
    assert again.to_dict() == columns
    assert again.to_df().shape == (2, len(columns))
    with pytest.raises(UsageError, match="get --at"):
        store.get_online_features("ranking_v1", rows, as_of="2026-01-01")


def test_online_and_historical_features_agree(store: FeatureStore):
    """A label at the moment of an online read gets what was read."""
    rows = [{"user_id": user, "item_id": 1 + user % 20} for user in range(1, 30)]
    online = store.get_online_features("ranking_v1", rows).to_arrow()
    at = [{**row, "timestamp": "2026-01-08T00:01:00Z"} for row in rows]
    trained = store.get_historical_features(at, "ranking_v1", cold_start="keep").to_arrow()
    for name in online.column_names:
        pairs = zip(online.column(name).to_pylist(), trained.column(name).to_pylist(), strict=True)
        for now, then in pairs:
            assert now == (pytest.approx(then, rel=1e-9) if isinstance(then, float) else then), name


def test_the_registry_lists_what_is_applied(store: FeatureStore):
    registry = store.registry
    assert [entity.name for entity in registry.list_entities()] == ["user", "item"]
    assert [source.name for source in registry.list_sources()] == ["user_events"]
    assert len(registry.list_feature_views()) == 4
    assert [feature.name for feature in registry.list_on_demand_features()] == ["spend_vs_revenue"]
    assert [service.name for service in registry.list_feature_services()] == ["ranking_v1"]
    assert "item_activity:view_count_1h" in registry.list_features("item")
    assert set(registry.list_features("item")) < set(registry.list_features())
    assert registry.get_entity("user").join_keys
    assert registry.get_source("user_events").event_id == "event_id"
    assert registry.get_on_demand_feature("spend_vs_revenue").expr
    assert [version.version for version in registry.history()] == [registry.version]
    with pytest.raises(NotFound, match="did you mean 'user_activity'"):
        registry.get_feature_view("user_activty")


def test_the_stores_tell_what_they_hold(store: FeatureStore):
    events = store.offline_store.events("user_events")
    assert events.num_rows == SHOP.events
    times = events.column("timestamp").to_pylist()
    assert times == sorted(times)
    users = len(set(events.column("user_id").to_pylist()))
    assert store.online_store.count("user_activity") == users
    with pytest.raises(NotFound, match="did you mean 'user_events'"):
        store.offline_store.events("user_event")


def test_bare_names_are_those_of_the_argument_s_entity(builder: PointInTimeDatasetBuilder, labels: pa.Table):
    """Both entities have a `purchase_count_24h`."""
    made = builder.build(
        labels, user_features=["purchase_count_24h"], item_features=["purchase_count_24h", "item_history:*"]
    ).to_arrow()
    assert made.column_names[labels.num_columns :] == [
        "user_activity__purchase_count_24h",
        "item_activity__purchase_count_24h",
        "item_history__avg_rating",
    ]


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        ({"user_features": ["purchase_cont_1h"]}, NotFound, "did you mean 'purchase_count_1h'"),
        ({"user_features": ["avg_rating"]}, NotFound, "no feature of this entity"),
        ({"user_features": ["item_history:avg_rating"]}, UsageError, "ask for it in item_features"),
        ({"user_features": ["user_history:x"]}, NotFound, "no feature of view user_history"),
        ({"user_features": "purchase_count_1h"}, UsageError, "is a list of names"),
        ({"usr_features": ["purchase_count_1h"]}, UsageError, "did you mean 'user_features'"),
        ({}, UsageError, "no features are asked for"),
    ],
)
def test_names_that_lead_nowhere_are_refused(
    builder: PointInTimeDatasetBuilder,
    labels: pa.Table,
    asked: dict[str, list[str]],
    kind: type[FeatureflowError],
    message: str,
):
    with pytest.raises(kind, match=message):
        builder.build(labels, **asked)


def test_an_untouched_dataset_passes_its_audit(
    builder: PointInTimeDatasetBuilder, frame: pd.DataFrame, labels: pa.Table, tmp_path: Path
):
    """As pandas, as a file, in another order and in part."""
    assert re.fullmatch(
        r"LeakageReport \[PASSED\] rows_checked=\d+ rows_sampled=25 violations=0",
        builder.validate_no_leakage(frame, labels).summary(),
    )
    made = builder.build(labels, user_features=["user_activity:*"])
    pq.write_table(made.to_arrow(), tmp_path / "made.parquet")
    assert builder.validate_no_leakage(tmp_path / "made.parquet", labels, sample_rows=3).sampled == 3
    part = frame.iloc[::-2].drop(columns=["item_history__avg_rating", "label"])
    assert builder.validate_no_leakage(part, labels).summary().startswith("LeakageReport [PASSED]")


def add_one(frame: pd.DataFrame) -> None:
    frame.loc[frame.index[-1], "user_activity__item_view_count_24h"] += 1


def add_a_cent(frame: pd.DataFrame) -> None:
    frame.loc[7, "user_activity__total_spend_24h"] = Decimal("0.01") + (
        frame.loc[7, "user_activity__total_spend_24h"] or 0
    )


def fill_a_null(frame: pd.DataFrame) -> None:
    place = frame.index[frame["item_history__avg_rating"].isna()][0]
    frame.loc[place, "item_history__avg_rating"] = 5.0


def reorder_a_list(frame: pd.DataFrame) -> None:
    place = next(at for at, held in enumerate(frame["user_activity__category_affinity"]) if len(held) > 1)
    frame.at[place, "user_activity__category_affinity"] = frame.at[place, "user_activity__category_affinity"][
        ::-1
    ]


def move_a_label(frame: pd.DataFrame) -> None:
    frame.loc[3, "timestamp"] += pd.Timedelta("1us")


def swap_a_user(frame: pd.DataFrame) -> None:
    frame.loc[3, "user_id"] += 1


@pytest.mark.parametrize(
    "tamper", [add_one, add_a_cent, fill_a_null, reorder_a_list, move_a_label, swap_a_user]
)
def test_a_tampered_dataset_fails_its_audit(
    builder: PointInTimeDatasetBuilder,
    frame: pd.DataFrame,
    labels: pa.Table,
    tamper: Callable[[pd.DataFrame], None],
):
    """One cell is enough, in a row that no sample holds too."""
    tampered = frame.copy(deep=True)
    tamper(tampered)
    found = builder.validate_no_leakage(tampered, labels, sample_rows=1)
    assert not found.passed
    assert re.match(r"LeakageReport \[FAILED\] rows_checked=\d+ .* violations=\d+: .+", found.summary())


def test_a_row_too_many_and_values_of_later_moments_fail(
    builder: PointInTimeDatasetBuilder, store: FeatureStore, frame: pd.DataFrame, labels: pa.Table
):
    twice = pd.concat([frame, frame.tail(1)])
    assert builder.validate_no_leakage(twice, labels).violations == 1
    later = labels.to_pandas()
    later["timestamp"] += pd.Timedelta("1h")
    leaky = store.get_historical_features(later, "ranking_v1", cold_start="keep").to_df()
    leaky["timestamp"] -= pd.Timedelta("1h")
    assert "before the label it was" in builder.validate_no_leakage(leaky, labels).summary()
    with pytest.raises(UsageError, match="no column of a feature"):
        builder.validate_no_leakage(labels, labels)


def test_online_and_offline_are_consistent(store: FeatureStore):
    checker = ConsistencyChecker(store.offline_store, store.online_store)
    report = checker.check(entity="user", entity_ids=[1, 2, 10**9], feature_names=["purchase_count_1h"])
    assert report.passed
    assert report.summary() == "ConsistencyReport [PASSED] entity=user checked=3 flagged_features=[]"
    everything = checker.check("item")
    assert everything.passed
    assert len(everything.features) == len(store.registry.list_features("item"))
    for asked, message in (
        ({"entity": "usr"}, "did you mean 'user'"),
        ({"entity": "user", "entity_ids": []}, "there is no user to check"),
        ({"entity": "user", "entity_ids": [(1, 2)]}, "it needs user_id"),
        ({"entity": "user", "feature_names": ["spend_vs_revenue"]}, "the features of views"),
        ({"entity": "user", "feature_names": ["purchase_cont_1h"]}, "did you mean 'purchase_count_1h'"),
    ):
        with pytest.raises(UsageError, match=message):
            checker.check(**asked)  # type: ignore[arg-type]


def test_another_online_state_is_flagged(store: FeatureStore):
    """States of other entities in these entities' place: the checker sees that the log says otherwise."""
    held, (_, build) = store.project.online, store.project.serving()["user_activity"]
    (one,), (other,) = (held.read("user", [id], [build.field]) for id in ("1", "2"))
    from tests.hashes import Write, together

    def put(blob: bytes | None, before: bytes | None, version: bytes) -> None:
        assert blob is not None
        write = Write("1", before, version, (blob,), (END_US,), None)
        assert held.write("user", [build.field], together(write)).all()

    put(other.blobs[0], one.version, b"tampered")
    try:
        checker = ConsistencyChecker(store.offline_store, store.online_store)
        report = checker.check("user", [1], ["item_view_count_24h", "purchase_count_24h"])
        assert not report.passed
        assert report.summary().startswith("ConsistencyReport [FAILED] entity=user checked=1")
    finally:
        put(one.blobs[0], b"tampered", b"restored")


def test_what_is_no_table_is_refused(store: FeatureStore):
    for given in (42, [1, 2], [{"user_id": 1}, {"user_id": "a"}]):
        with pytest.raises(UsageError, match="entity_df"):
            store.get_historical_features(given, "ranking_v1")


def test_the_page_s_session_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """docs/python.md, block by block, shell and Python."""
    create(tmp_path / "shop", "ecommerce")
    monkeypatch.chdir(tmp_path / "shop")
    session: dict[str, object] = {}
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) >= 8
    for kind, block in blocks:
        if kind == "sh":
            for line in block.splitlines():
                done = CliRunner().invoke(app, line.split()[1:])
                assert done.exit_code == 0, done.output
        else:
            exec(compile(block, str(PAGE), "exec"), session)
