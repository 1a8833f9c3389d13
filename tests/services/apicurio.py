"""A real Schema Registry: Apicurio's, whose API Confluent's clients understand, run by the system's Java.

What it holds, it holds in memory. Protobuf schemas it gives back as they were registered: Confluent's clients for
Python register descriptors.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.services import jars
from tests.services.processes import LOOPBACK, Process, ServiceFailed, free_port

VERSION = "2.6.13.Final"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"


def folder() -> Path:
    """Where the unpacked registry lies, or will."""
    return jars.folder().with_name(f"apicurio-{VERSION}")


def missing() -> str | None:
    """What has to be installed, None where it is there."""
    if shutil.which("java") is None:
        return "java is not on the PATH: apt-get install default-jre-headless maven"
    if not folder().is_dir():
        return f"Apicurio Registry is not in {folder()}: python -m tests.services install (it needs java and mvn)"
    return None


def install() -> Path:
    """Fetch it where it is missing (142 MB), whole or not at all; where it lies."""
    if folder().is_dir():
        return folder()
    if shutil.which("mvn") is None:
        msg = "mvn is not on the PATH: apt-get install maven"
        raise ServiceFailed(msg)
    fresh = folder().with_name("apicurio.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    fetch = ["mvn", "-q", "-B", f"{PLUGIN}:unpack", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={fresh}"]
    with (
        tempfile.TemporaryDirectory() as aside
    ):  # without a project, its marks would lie where we are called from
        jars.run(fetch, "mvn could not fetch Apicurio Registry", aside)
    fresh.rename(folder())
    return folder()


@contextmanager
def schema_registry() -> Iterator[str]:
    """The URL of a registry of your own (four seconds of CPU to start)."""
    port = free_port()
    settings = {
        "quarkus.http.host": LOOPBACK,
        "quarkus.http.port": port,
        "apicurio.storage.kind": "sql",
        "apicurio.storage.sql.kind": "h2",
        "apicurio.datasource.url": "jdbc:h2:mem:registry",
        "apicurio.datasource.username": "sa",
        "apicurio.datasource.password": "sa",
    }
    command = [
        "java",
        "-Xmx256m",
        *jars.QUICK,
        *(f"-D{name}={value}" for name, value in settings.items()),
        "-jar",
        folder() / f"apicurio-registry-app-{VERSION}-runner.jar",
    ]
    url = f"http://{LOOPBACK}:{port}/apis/ccompat/v7"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/subjects", timeout=5).is_success
        except httpx.HTTPError:
            return False

    with tempfile.TemporaryDirectory(prefix="featureflow-apicurio-", ignore_cleanup_errors=True) as place:
        process = Process(command, Path(place) / "apicurio.log")
        process.start(answers, 90)
        try:
            yield url
        finally:
            process.kill()
