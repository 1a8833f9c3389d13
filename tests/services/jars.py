"""Kafka's jars: which version, where they lie, and the Java that runs them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.services.processes import ServiceFailed

POM = Path(__file__).with_name("pom.xml")
# Half of a short-lived broker's CPU is the compiler's; a benchmark wants it to finish its work.
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def version() -> str:
    """The version that pom.xml names."""
    found = re.search(r"<kafka.version>(.+?)<", POM.read_text())
    assert found
    return found[1]


def folder() -> Path:
    """Where the jars of this version lie, or will."""
    cache = os.environ.get("FEATUREFLOW_TESTS_CACHE") or Path.home() / ".cache/featureflow-tests"
    return Path(cache) / f"kafka-{version()}"


def formatted() -> Path:
    """An empty storage, as the first start finds it."""
    return folder() / "formatted"


def archive() -> Path:
    """The classes that a start loads, as Java keeps them (class data sharing)."""
    return folder() / "classes.jsa"


def fetch() -> None:
    """Copy the jars into their folder, whole or not at all."""
    if shutil.which("mvn") is None:
        msg = "mvn is not on the PATH: apt-get install maven"
        raise ServiceFailed(msg)
    fresh = folder().with_suffix(".fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    copy = ["dependency:copy-dependencies", f"-DoutputDirectory={fresh}", "-DincludeScope=runtime"]
    run(["mvn", "-q", "-B", "-f", str(POM), *copy], "mvn could not fetch Kafka's jars")
    fresh.rename(folder())


def java(heap_mb: int, quick: bool) -> list[str]:
    """The command up to the main class. It warns on stderr, and is silent otherwise."""
    return [
        "java",
        f"-Xmx{heap_mb}m",
        *(QUICK if quick else ()),
        *([f"-XX:SharedArchiveFile={archive()}"] if archive().exists() else []),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-cp",
        f"{folder()}/*",
    ]


def run(command: list[str], failure: str, folder: str | None = None) -> None:
    """Run it to its end, in that folder; raises ServiceFailed with what it printed."""
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        msg = f"{failure}:\n{done.stdout}{done.stderr}"
        raise ServiceFailed(msg)
