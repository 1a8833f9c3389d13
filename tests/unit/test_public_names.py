"""What `featureflow_cli` exports, and that it costs nothing before it is used."""

import json
import subprocess
import sys

import pytest

import featureflow_cli

LOOK = """
import json, sys
import featureflow_cli
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {
    "pydantic",
    "pyarrow",
    "numpy",
    "duckdb",
    "deltalake",
    "pandas",
    "sqlglot",
    "yaml",
    "typer",
    "sqlite3",
}


@pytest.mark.parametrize("name", featureflow_cli.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(featureflow_cli, name).__name__ == name
    assert name in dir(featureflow_cli)


def test_every_name_with_a_home_is_public_and_sorted():
    homes = [name for names in featureflow_cli._HOMES.values() for name in names]
    assert sorted(homes) == sorted(featureflow_cli.__all__)
    assert featureflow_cli.__all__ == sorted(featureflow_cli.__all__)


def test_importing_the_package_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & HEAVY
    assert [name for name in loaded if name.startswith("featureflow_cli")] == ["featureflow_cli"]


def test_using_the_store_does_not_load_pandas():
    """It is optional, and slow to load."""
    look = LOOK.replace("print", "featureflow_cli.FeatureStore('.')\nprint")
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert "pandas" not in json.loads(done.stdout)


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'FeatureShop'"):
        _ = featureflow_cli.FeatureShop  # type: ignore[attr-defined]
