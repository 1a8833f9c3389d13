"""Small repos on disk, for the tests of this folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ENTITY = "entities:\n  - {name: user, join_keys: {user_id: int64}}\n"
SOURCE = (
    "sources:\n"
    "  - name: events\n"
    "    schema: {user_id: int64, amount: double, timestamp: timestamp}\n"
    "    timestamp_field: timestamp\n"
    "    batch: {path: x.csv}\n"
)
VIEW = (
    "feature_views:\n"
    "  - name: activity\n"
    "    entity: user\n"
    "    source: events\n"
    "    features: [{name: spend_1h, sum: amount, window: 1h}]\n"
)


def write(root: Path, files: Mapping[str, str]) -> Path:
    """The files below `root`; a feature_store.yaml is there where none is given."""
    for name, text in {"feature_store.yaml": "project: test\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def repo(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Writes files and answers the repo's folder."""
    return lambda files: write(tmp_path, files)


@pytest.fixture
def whole() -> str:
    """One file with an entity, a source and a view."""
    return ENTITY + SOURCE + VIEW
