"""Error messages are what this room delivers: every broken file below golden/ has its exact report beside it.

`base.yaml` lies beside each case in the repo, so that a case may refer to what is right. To accept new
messages after reading them: FEATUREFLOW_UPDATE_GOLDEN=1 pytest tests/unit/spec/test_golden.py
"""

import os
import shutil
from pathlib import Path

import pytest

from featureflow_cli.errors import DefinitionError
from featureflow_cli.spec.repo import load

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.yaml") if path.stem != "base")
ENVIRON = {"SECRET": "geheim 1", "SECRET_NAME": "geheim"}


def report(repo: Path, case: str) -> str:
    features = repo / "features"
    features.mkdir()
    (repo / "feature_store.yaml").write_text("project: golden\n", encoding="utf-8")
    shutil.copy(GOLDEN / "base.yaml", features)
    shutil.copy(GOLDEN / f"{case}.yaml", features)
    try:
        load(repo, None, ENVIRON)
    except DefinitionError as err:
        return f"{err}\n"
    return "no problem\n"


@pytest.mark.parametrize("case", CASES)
def test_report(case: str, tmp_path: Path) -> None:
    told = report(tmp_path, case)
    expected = GOLDEN / f"{case}.txt"
    if os.environ.get("FEATUREFLOW_UPDATE_GOLDEN"):
        expected.write_text(told, encoding="utf-8")
    assert told == expected.read_text(encoding="utf-8")
    assert "geheim" not in told


def test_every_report_belongs_to_a_case() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == CASES
