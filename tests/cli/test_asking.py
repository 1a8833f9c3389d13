"""`apply` on a terminal: it asks, and only a yes applies anything."""

import os
import pty
import select
import signal
import sys

import pytest

from tests.cli.projects import Bank

AGAIN_S = 2.0
"""After so long without a word somebody at a terminal presses the key again."""


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the child execs at once
@pytest.mark.parametrize(
    ("answer", "code", "is_applied"),
    [(b"y\n", 0, True), (b"n\n", 1, False), (b"\n", 1, False), (b"\x03", 130, False)],
)
def test_apply_asks_on_a_terminal(bank: Bank, answer: bytes, code: int, is_applied: bool):
    program = "import sys; from featureflow_cli.cli.main import main; main()"
    command = [sys.executable, "-c", program, "-c", str(bank.root), "apply"]
    environ = {key: value for key, value in os.environ.items() if key not in {"CI", "FEATUREFLOW_TARGET"}}
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background of a shell ignores it
        os.execve(sys.executable, command, {**environ, "NO_COLOR": "1"})
    said, has_answered = b"", False
    while True:
        ready, _, _ = select.select([terminal], [], [], AGAIN_S)
        if not ready:
            if has_answered:  # Python does not see a Ctrl-C that comes just as it begins to wait for a line
                os.write(terminal, answer)
            continue
        try:
            more = os.read(terminal, 4096)
        except OSError:  # the child has closed its end
            break
        if not more:
            break
        said += more
        if b"[y/N]" in said and not has_answered:
            os.write(terminal, answer)
            has_answered = True
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == code, said.decode()
    assert (b"Applied version 1." in said) is is_applied
    assert (bank.root / "data" / "registry.db").exists() is is_applied
