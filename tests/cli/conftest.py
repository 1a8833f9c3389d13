from pathlib import Path

import pytest

from tests.cli.projects import Bank


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(tmp_path / "bank")
