"""Fixtures with a real service behind them, and what happens where it is not installed.

A test that uses one is marked `service(NAME)`; a test that starts a service itself (`with kafka_broker() as ...`)
says so: `@pytest.mark.service("kafka")`. FEATUREFLOW_REQUIRE_SERVICES decides: unset, such a test is skipped where
its service is missing; `1`, it fails then, and where it is skipped for any other reason; `0`, it is skipped always.
"""

import os
from collections.abc import Generator, Iterator

import pytest

from tests.services import apicurio
from tests.services import kafka as kafka_service
from tests.services import redis as redis_service
from tests.services import s3 as s3_service
from tests.services.kafka import Kafka
from tests.services.redis import RedisCluster, RedisServer, redis_cluster, redis_server
from tests.services.s3 import S3Server, s3_server
from tests.services.sharing import shared_kafka

MISSING = {
    "redis": redis_service.missing,
    "kafka": kafka_service.missing,
    "s3": s3_service.missing,
    "schema_registry": apicurio.missing,
}
SERVICE_OF_FIXTURE = {
    "redis_url": "redis",
    "redis_cluster_url": "redis",
    "kafka": "kafka",
    "s3": "s3",
    "schema_registry_url": "schema_registry",
}


def require(service: str) -> None:
    """Skip or fail the test unless the service can be started here."""
    wanted = os.environ.get("FEATUREFLOW_REQUIRE_SERVICES")
    if wanted == "0":
        pytest.skip("FEATUREFLOW_REQUIRE_SERVICES=0")
    reason = MISSING[service]()
    if reason is not None:
        (pytest.fail if wanted == "1" else pytest.skip)(reason)


@pytest.fixture
def redis_url(_redis: RedisServer) -> str:
    """The URL of an empty Redis that no other test uses meanwhile; its settings are not to be changed."""
    with _redis.client() as client:
        client.flushall()
    return _redis.url


@pytest.fixture
def redis_cluster_url(_redis_cluster: RedisCluster) -> str:
    """The URL of one node of an empty cluster of three, which no other test uses meanwhile."""
    _redis_cluster.flush()
    return _redis_cluster.url


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The broker of this test run, shared by all its processes: make topics of your own, `kafka.topic(3)`."""
    require("kafka")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with shared_kafka(folder) as address:
        yield Kafka(address)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server for each process of the run: make buckets of your own, `s3.bucket()`."""
    require("s3")
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def schema_registry_url() -> Iterator[str]:
    """The URL of a Schema Registry for each process of the run that uses one: make subjects of your own."""
    require("schema_registry")
    with apicurio.schema_registry() as url:
        yield url


@pytest.fixture(scope="session")
def _redis() -> Iterator[RedisServer]:
    """One for each process of the run: it takes 30 ms, and a test may empty it."""
    require("redis")
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def _redis_cluster() -> Iterator[RedisCluster]:
    """One for each process of the run, for the same reason; it takes two seconds, nearly all of them asleep."""
    require("redis")
    with redis_cluster() as cluster:
        yield cluster


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark who uses a service, before `-m` chooses."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        for service in sorted({SERVICE_OF_FIXTURE[name] for name in names if name in SERVICE_OF_FIXTURE}):
            item.add_marker(pytest.mark.service(service))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("service"):
        require(mark.args[0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where services are required, a skipped test of one is a failed one."""
    report = yield
    required = os.environ.get("FEATUREFLOW_REQUIRE_SERVICES") == "1"
    if required and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("service"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though its service is required: {report.longrepr}"
    return report
