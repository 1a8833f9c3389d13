"""Processes and what they cost: wall seconds, CPU seconds from the kernel, resident memory."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What a process and its children took; `redis_s` is the CPU of Redis meanwhile, `out` what it printed."""

    wall_s: float
    cpu_s: float
    redis_s: float
    rss_mb: float
    out: str

    def minus(self, other: "Cost") -> "Cost":
        """Without what another run costs that does nothing but start up."""
        return Cost(
            self.wall_s - other.wall_s,
            self.cpu_s - other.cpu_s,
            self.redis_s - other.redis_s,
            self.rss_mb,
            self.out,
        )


def cpu_of(pid: int) -> float:
    """CPU seconds of a running process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_of(pid: int) -> float:
    """Resident memory of a running process and of those it started, in MB (10^6 bytes); shared pages are of each."""
    status = Path(f"/proc/{pid}/status").read_text()
    mine = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)
    return mine * 1024 / 1e6 + sum(map(rss_of, _children(pid)))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that is gone
            found += map(int, path.read_text().split())
    return found


def run(words: Sequence[str], environ: Mapping[str, str], redis_pid: int) -> Cost:
    """Run a command to its end; it must succeed. The cost counts its children, too."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        redis_before, started = cpu_of(redis_pid), time.perf_counter()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=said, env=environ)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(words)}: exit {process.returncode}\n{out.read()}{said.read()}")
        cpu_s = usage.ru_utime + usage.ru_stime
        rss_mb = usage.ru_maxrss * 1024 / 1e6
        return Cost(wall_s, cpu_s, cpu_of(redis_pid) - redis_before, rss_mb, out.read())


class Every:
    """Calls `look` every so many seconds in a thread, for the length of a `with`."""

    def __init__(self, seconds: float, look: Callable[[], None]) -> None:
        self._stop = threading.Event()
        self._seconds, self._look = seconds, look
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._look()

    def __enter__(self) -> "Every":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
