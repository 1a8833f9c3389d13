from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.serve.shop import Server, Shop, make_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop that tests only read; `shop.copy` makes one to change."""
    return make_shop(tmp_path_factory.mktemp("serve") / "shop", 1_500)


@pytest.fixture(scope="session")
def server(shop: Shop) -> Iterator[Server]:
    with Server(shop.root) as server:
        yield server


@pytest.fixture
def own(shop: Shop, tmp_path: Path) -> Shop:
    return shop.copy(tmp_path / "shop")
