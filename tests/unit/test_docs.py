"""The documentation keeps up: its YAML is valid, its links lead somewhere, and nothing is left out."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from featureflow_cli.cli.main import COMMANDS
from featureflow_cli.spec.models import AGGREGATIONS, Definitions, Feature, StoreConfig

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted((CHECKOUT / "docs").glob("*.md"))]
GUIDES = [page for page in PAGES if page.name != "design.md"]


def _yaml_blocks() -> Iterator[object]:
    for page in GUIDES:
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S)):
            yield pytest.param(textwrap.dedent(block), id=f"{page.name}-{number}")


@pytest.mark.parametrize("block", list(_yaml_blocks()))
def test_every_yaml_block_is_valid(block: str) -> None:
    """Whole files and their parts alike; a list that stands alone is of views or of features."""
    written = yaml.load(block, yaml.BaseLoader)
    if isinstance(written, list):
        kind = "feature_views" if "entity" in written[0] else "features"
        if kind == "features":
            assert [Feature.model_validate(each) for each in written]
            return
        written = {kind: written}
    if "project" in written:
        written = yaml.safe_load(block)
        targets = written.pop("targets", {})
        StoreConfig.model_validate({"project": "p", **written})
        for overlay in targets.values():
            StoreConfig.model_validate({"project": "p", **overlay})
    else:
        Definitions.model_validate(written)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_is_on_the_page_of_commands() -> None:
    page = (CHECKOUT / "docs/cli.md").read_text()
    assert [name for name in COMMANDS if f"`{name}" not in page] == []


def test_every_aggregation_and_option_of_a_feature_is_on_the_page_of_the_yaml() -> None:
    page = (CHECKOUT / "docs/yaml.md").read_text()
    options = set(Feature.model_fields) - set(AGGREGATIONS) - {"name"}
    assert [name for name in (*AGGREGATIONS, *sorted(options)) if not re.search(rf"`{name}\b", page)] == []


def test_every_file_that_the_architecture_names_is_there() -> None:
    """`spec/models.py`, `spec/check_*.py`, `sources/`: in the package, or in the checkout itself."""
    page = (CHECKOUT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`((?:[a-z_*]+/)+(?:[a-z_*]+\.[a-z]+)?|[a-z_]+\.py)`", page))
    assert len(named) > 20
    roots = (CHECKOUT, CHECKOUT / "featureflow_cli", CHECKOUT / "featureflow_cli/compute")
    assert [name for name in sorted(named) if not any(any(root.glob(name)) for root in roots)] == []
