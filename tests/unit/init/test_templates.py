"""`init`: what it copies, what it refuses, and that what it makes is a valid project."""

from pathlib import Path

import pytest

from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.errors import UsageError
from featureflow_cli.init.templates import Template, create, read
from featureflow_cli.spec.repo import load

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("template", ["ecommerce", "minimal"])
def test_a_new_project_is_valid_as_it_is(tmp_path: Path, template: Template) -> None:
    create(tmp_path / "shop", template)
    loaded = load(tmp_path / "shop", None, {})
    assert compile_repo(loaded.config, loaded.definitions).services
    assert loaded.definitions.unit_tests


def test_the_ecommerce_template_is_the_example_itself() -> None:
    """One source of truth: the files of example_repo that git would keep, word for word."""
    example = CHECKOUT / "example_repo"
    expected = {
        str(path.relative_to(example))
        for pattern in ("*.yaml", "features/*.yaml", "README.md", ".gitignore")
        for path in example.glob(pattern)
    }
    copied = read("ecommerce")
    assert set(copied) == expected
    assert all((example / name).read_text() == text for name, text in copied.items())


def test_the_example_has_the_shop_s_eighteen_features_and_one_of_the_pair() -> None:
    loaded = load(CHECKOUT / "example_repo", None, {})
    repo = compile_repo(loaded.config, loaded.definitions)
    by_entity: dict[str, set[str]] = {}
    for view in repo.views.values():
        by_entity.setdefault(view.entity, set()).update(name for name, _ in view.outputs)
    assert by_entity == {
        "user": {
            "purchase_count_1h",
            "purchase_count_24h",
            "item_view_count_1h",
            "item_view_count_24h",
            "cart_count_1h",
            "total_spend_24h",
            "conversion_rate_7d",
            "category_affinity",
            "avg_session_duration",
            "days_since_last_purchase",
        },
        "item": {
            "view_count_1h",
            "view_count_24h",
            "purchase_count_24h",
            "cart_add_count_1h",
            "conversion_rate_24h",
            "revenue_24h",
            "popularity_rank_1h",
            "avg_rating",
        },
    }
    assert [name for name, _ in repo.services["ranking_v1"].outputs][-1] == "spend_vs_revenue"
    assert len(repo.services["ranking_v1"].outputs) == 19


def test_every_yaml_file_names_a_schema_that_is_there(tmp_path: Path) -> None:
    created = create(tmp_path, "ecommerce")
    for name in created.files:
        if name.endswith(".yaml"):
            header, _, text = (tmp_path / name).read_text().partition("\n")
            assert text == read("ecommerce")[name]
            schema = header.removeprefix("# yaml-language-server: $schema=")
            assert ((tmp_path / name).parent / schema).is_file()


def test_nothing_that_exists_is_overwritten_and_then_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        create(tmp_path, "minimal")
    assert [path.name for path in tmp_path.iterdir()] == ["feature_store.yaml"]
    assert (tmp_path / "feature_store.yaml").read_text() == "mine"


def test_a_file_in_the_folder_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        create(tmp_path / "shop", "minimal")
