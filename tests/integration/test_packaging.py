"""The wheel works where nothing but the wheel is: templates ship with it, and the command runs."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def _run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh virtual environment that has the wheel and what it depends on."""
    here = tmp_path_factory.mktemp("packaging")
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", here / "dist", CHECKOUT, cwd=here)
    (wheel,) = (here / "dist").glob("featureflow-*.whl")
    venv.create(here / "venv", with_pip=True)
    _run(here / "venv/bin/python", "-m", "pip", "install", "-q", wheel, cwd=here)
    return here / "venv/bin"


def test_the_wheel_alone_is_enough(installed: Path, tmp_path: Path) -> None:
    """It starts and plans a project of each template, knows its version, and ships its types."""
    for template in ("ecommerce", "minimal"):
        _run(installed / "featureflow", "init", template, "--template", template, cwd=tmp_path)
        plan = _run(installed / "featureflow", "-c", template, "plan", cwd=tmp_path)
        assert "user_activity" in plan
    assert _run(installed / "featureflow", "--version", cwd=tmp_path).startswith("featureflow 0.")
    where = _run(
        installed / "python", "-c", "import featureflow_cli; print(featureflow_cli.__file__)", cwd=tmp_path
    )
    assert CHECKOUT not in Path(where.strip()).parents
    assert (Path(where.strip()).parent / "py.typed").is_file()
