"""What a fleet's workers are started by."""

import subprocess
from pathlib import Path

from featureflow_cli.stream.fleet import this_command


def test_a_worker_takes_no_file_of_the_project_for_a_library(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise SystemExit('a script of the project was run')\n")
    done = subprocess.run(
        this_command(["--version"]), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["featureflow"]), done.stderr
