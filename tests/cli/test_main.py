"""The command line itself: help without imports, words of other tools, errors and exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featureflow_cli.cli.commands import _load
from featureflow_cli.cli.main import COMMANDS, ELSEWHERE, globals_first
from tests.cli.projects import Bank

HEAVY = (
    "pyarrow",
    "duckdb",
    "pydantic",
    "rich",
    "numpy",
    "deltalake",
    "sqlglot",
    "yaml",
    "sqlite3",
    "asyncio",
    "uvicorn",
)


def test_help_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from featureflow_cli.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert all(name.split(" ")[-1] in done.stdout for name in COMMANDS)


def test_a_stream_takes_its_memory_from_the_system(bank: Bank):
    """Which allocator Arrow has is settled as it is loaded."""
    assert bank("apply", "-y").code == 0
    script = (
        "from featureflow_cli.cli.main import app\n"
        f"try: app(['--chdir', {os.fspath(bank.root)!r}, 'stream', '--once'])\n"
        "except SystemExit as end: assert not end.code, end\n"
        "import pyarrow\n"
        "print(pyarrow.default_memory_pool().backend_name)\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environ
    )
    assert done.stdout.split()[-1:] == ["system"], done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_its_help_has_an_example(bank: Bank, name: str):
    done = bank(*name.split(" "), "--help")
    assert done.code == 0, done.stderr
    assert f"featureflow {name}" in done.stdout.partition("Example:")[2]
    assert _load(COMMANDS[name].function).__doc__


@pytest.mark.parametrize("theirs", ELSEWHERE)
def test_words_of_feast_and_dbt_are_answered_with_ours(bank: Bank, theirs: str):
    done = bank(*theirs.split(" "), "2026-01-01")
    assert (done.code, done.stdout) == (2, "")
    assert f"hint: run: {ELSEWHERE[theirs]}" in done.stderr or "hint: run: featureflow ls" in done.stderr
    assert f"there is no command '{theirs}' here" in done.stderr


def test_what_we_point_to_is_there():
    for ours in ELSEWHERE.values():
        if ours.startswith("featureflow"):
            assert ours.split(" ")[1] in {name.split(" ")[0] for name in COMMANDS}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["aply"], "did you mean 'apply'?"),
        (["dead-letters", "lst"], "did you mean 'list'?"),
        (["frobnicate"], "one of: init"),
    ],
)
def test_an_unknown_command_gets_a_hint(bank: Bank, words: list[str], hint: str):
    done = bank(*words)
    assert done.code == 2
    assert hint in done.stderr


def test_a_broken_definition_is_shown_with_place_excerpt_and_hint_and_no_traceback(bank: Bank):
    bank.replace("sum: amount", "sun: amount")
    done = bank("validate")
    assert (done.code, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: features/bank.yaml:20:27: unknown")
    assert "^" in done.stderr
    assert "did you mean 'sum'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_project_here_is_explained(tmp_path: Path, bank: Bank):
    done = bank("-c", str(tmp_path), "plan")
    assert done.code == 2
    assert "there is no feature_store.yaml" in done.stderr
    assert "featureflow init" in done.stderr


def test_an_unknown_target_is_explained(bank: Bank):
    done = bank("-t", "prd", "plan")
    assert done.code == 2
    assert "did you mean 'prod'?" in done.stderr


def test_the_target_may_come_from_the_environment(bank: Bank, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FEATUREFLOW_TARGET", "prd")
    assert "no target 'prd'" in bank("plan").stderr


def test_a_damaged_registry_ends_with_4(bank: Bank):
    (bank.root / "data").mkdir()
    (bank.root / "data" / "registry.db").write_bytes(b"rubbish" * 1000)
    done = bank("plan")
    assert done.code == 4
    assert "is damaged or is no registry" in done.stderr
    assert bank("plan", "--detailed-exitcode").code == 1


def test_a_bug_ends_with_1_and_shows_its_traceback_only_when_asked(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
):
    (bank.root / "data" / "registry.db").mkdir(parents=True)
    bank.features.unlink()
    bank.features.mkdir()  # a folder of that name is no file: nothing is defined
    assert bank("validate").stdout == "bank: no problems (nothing is defined yet)\n"
    monkeypatch.setitem(COMMANDS, "status", COMMANDS["ls"].__class__("tests.cli.test_main:_raise", "", ""))
    done = bank("status")
    assert done.code == 1
    assert "this is a bug in featureflow: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    monkeypatch.setenv("FEATUREFLOW_DEBUG", "1")
    assert "Traceback" in bank("status").stderr


def _raise() -> None:
    """Fails."""
    raise ZeroDivisionError


def test_global_options_may_follow_the_verb():
    assert globals_first(["plan", "-t", "prod", "--json"]) == ["-t", "prod", "plan", "--json"]
    assert globals_first(["plan", "--chdir=x", "--", "-t"]) == ["--chdir=x", "plan", "--", "-t"]
    assert globals_first(["plan", "-t"]) == ["-t", "plan"]


def test_colour_is_for_terminals_only(bank: Bank):
    assert "\x1b" not in bank("plan").stdout + bank("frobnicate").stderr
