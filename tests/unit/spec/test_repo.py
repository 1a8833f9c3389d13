"""Repos as they lie on disk: the shop loads, overlays and variables hold, nothing else ever comes out."""

import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.errors import DefinitionError, FeatureflowError, NotFound, UsageError
from featureflow_cli.spec.models import AGGREGATIONS
from featureflow_cli.spec.repo import dump_definitions_json, load, load_definitions_json

Write = Callable[[Mapping[str, str]], Path]
SHOP = Path(__file__).parent / "shop"
PROD = {"REGISTRY_URL": "postgresql://db/r", "REDIS_URL": "redis://r", "SPARK_REMOTE": "sc://s"}


def places(root: Path, target: str | None = None, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load(root, target, environ or {})
    return [problem.at for problem in caught.value.problems]


def test_the_documented_shop_loads_without_a_problem() -> None:
    loaded = load(SHOP, None, {})
    definitions = loaded.definitions
    assert loaded.config.project == "shop"
    assert [view.name for view in definitions.feature_views] == [
        "user_activity", "user_history", "user_profile", "item_activity", "item_history",
    ]  # fmt: skip
    assert [source.name for source in definitions.sources] == ["user_events", "profiles"]
    assert loaded.positions.at(("entities", 1, "name")) == "features/entities.yml:3:12"
    assert (
        loaded.positions.at(("sources", 0, "schema", "category", "from"))
        == "features/more/sources.yaml:10:38"
    )


def test_a_target_overlays_the_settings() -> None:
    config = load(SHOP, "prod", PROD).config
    assert (config.registry, config.stream.from_) == ("postgresql://db/r", "kafka")
    assert config.stream.commit_interval == 5_000_000
    assert (config.online_store.type, config.online_store.url) == ("redis", "redis://r")
    assert "path" not in config.online_store.model_fields_set


def test_only_the_chosen_targets_variables_must_be_set() -> None:
    assert load(SHOP, None, {}).target is None
    assert places(SHOP, "prod") == [
        "feature_store.yaml:11:16",
        "feature_store.yaml:13:39",
        "feature_store.yaml:15:36",
    ]


def test_an_unknown_target_is_told_with_the_nearest() -> None:
    with pytest.raises(NotFound, match=r"there is no target 'prd'") as caught:
        load(SHOP, "prd", {})
    assert caught.value.hint == "did you mean 'prod'?"


def test_a_folder_without_a_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no feature_store\.yaml") as caught:
        load(tmp_path, None, {})
    assert "featureflow init" in caught.value.hint


def test_other_targets_are_checked_too(repo: Write) -> None:
    store = 'project: p\ntargets:\n  a: {server: {prt: 1}}\n  b: {server: {port: "${env:PORT}"}}\n'
    assert places(repo({"feature_store.yaml": store})) == ["feature_store.yaml:3:16"]


def test_a_variable_fits_a_number(repo: Write) -> None:
    root = repo({"feature_store.yaml": 'project: p\nserver: {port: "${env:PORT}"}\n'})
    assert load(root, None, {"PORT": "80"}).config.server.port == 80


def test_files_hold_anything_in_any_order(repo: Write, whole: str) -> None:
    entity, rest = whole.split("sources:")
    source, view = ("sources:" + rest).split("feature_views:")
    more = "entities:\n  - {name: item, join_keys: {item_id: int64}}\n"
    root = repo(
        {
            "features/b.yaml": more + "feature_views:" + view,
            "features/a/z.yml": entity,
            "features/c.yaml": "feature_views:\nunit_tests: []\n" + source,
        }
    )
    definitions = load(root, None, {}).definitions
    assert [entity.name for entity in definitions.entities] == ["user", "item"]


def test_hidden_files_and_other_endings_are_not_read(repo: Write, whole: str) -> None:
    root = repo(
        {"features/a.yaml": whole, "features/.#a.yaml": "]", "features/.x/a.yaml": "]", "features/a.txt": "]"}
    )
    assert len(load(root, None, {}).definitions.entities) == 1


def test_a_store_without_definitions_loads(repo: Write) -> None:
    assert load(repo({}), None, {}).definitions.feature_views == ()


def test_problems_of_all_files_come_together_in_order(repo: Write) -> None:
    entities = "entities:\n" + "".join(f"  - {{name: {n}x, join_keys: {{a: int64}}}}\n" for n in range(12))
    root = repo(
        {
            "feature_store.yaml": "project: p\nversion: 2\nentities: []\n",
            "features/a.yaml": entities,
            "features/b.yaml": "[",
        }
    )
    assert places(root) == [
        "feature_store.yaml:2:10",
        "feature_store.yaml:3:1",
        *(f"features/a.yaml:{line}:12" for line in range(2, 14)),
        "features/b.yaml:1:2",
    ]


def test_text_that_is_not_utf_8_is_placed(repo: Write) -> None:
    root = repo({})
    (root / "features").mkdir()
    (root / "features" / "a.yaml").write_bytes(b"entities:\n  - {name: caf\xe9}\n")
    assert places(root) == ["features/a.yaml:2:1"]


def test_line_ends_and_marks_of_other_systems_change_nothing(repo: Write, whole: str) -> None:
    root = repo({})
    (root / "features").mkdir()
    (root / "features" / "a.yaml").write_bytes(b"\xef\xbb\xbf" + whole.replace("\n", "\r\n").encode())
    assert load(root, None, {}).definitions.entities[0].name == "user"


def test_foreign_settings_are_told(repo: Write) -> None:
    store = "project: p\nonline_store: {url: x}\nengine: {remote: y}\n"
    assert places(repo({"feature_store.yaml": store})) == [
        "feature_store.yaml:2:16",
        "feature_store.yaml:3:10",
    ]


def test_definitions_survive_json() -> None:
    definitions = load(SHOP, None, {}).definitions
    assert load_definitions_json(dump_definitions_json(definitions)) == definitions


def test_a_mutilated_repo_never_shows_a_traceback(tmp_path: Path) -> None:
    """Whatever is cut, doubled or overwritten: the shop loads, or it is told what is wrong with it."""
    shutil.copytree(SHOP, tmp_path / "shop")
    paths = sorted((tmp_path / "shop").rglob("*.y*ml"))
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    dice = random.Random(7)
    reported = 0
    for _ in range(150):
        path = dice.choice(paths)
        text = texts[path]
        at, width = dice.randrange(len(text)), dice.choice([1, 1, 2, 5, 30])
        new = dice.choice(
            ["", "", "x", "*", "{", "}", ": ", "- ", "\n", "\t", "'", '"', "1", "null", "[a, b]", "${", "&a "]
        )
        path.write_text(text[:at] + new + text[at + width :], encoding="utf-8")
        try:
            load(tmp_path / "shop", None, {})
        except FeatureflowError as err:
            reported += 1
            assert str(err)
        path.write_text(text, encoding="utf-8")
    assert reported > 50


def test_nothing_heavy_is_imported_before_it_must() -> None:
    """`featureflow --help` and `validate` answer at once."""
    heavy = ["pyarrow", "duckdb", "numpy", "sqlglot", "redis", "confluent_kafka"]
    code = f"import sys, featureflow_cli.spec.repo; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_aggregation_and_option_loads_and_compiles(repo: Write) -> None:
    here = Path(__file__).parent
    texts = {name: (here / name).read_text(encoding="utf-8") for name in ("golden/base.yaml", "wide.yaml")}
    loaded = load(repo({f"features/{Path(name).name}": text for name, text in texts.items()}), None, {})
    written = {feature.aggregation for feature in loaded.definitions.feature_views[1].features or ()}
    assert written == set(AGGREGATIONS)
    types = dict(compile_repo(loaded.config, loaded.definitions).views["wide"].outputs)
    assert str(types["sum_exact_24h"]) == "decimal(38,2)"
    assert str(types["top_24h"]) == "list<string>"
    assert load_definitions_json(dump_definitions_json(loaded.definitions)) == loaded.definitions
