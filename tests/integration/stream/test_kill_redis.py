"""`kill -9` of streams and of the Redis that they write to, which comes back empty: nothing is lost or doubled."""

import signal
import threading
from collections.abc import Callable, Iterator
from functools import partialmethod
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from featureflow_cli.online.redis_link import Talk
from featureflow_cli.stream.faults import VARIABLE
from featureflow_cli.stream.run import run
from tests.integration.stream.repo import drained, opened, start
from tests.integration.stream.test_kill import assert_alike, generated, marks, shop
from tests.services.processes import wait_until
from tests.services.redis import RedisServer, redis_cluster, redis_server

pytestmark = pytest.mark.service("redis")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def on_redis(folder: Path, events: Path, server: RedisServer, is_cluster: bool = False) -> None:
    """The shop over these events, its states in Redis."""
    shop(folder, events)
    file = folder / "feature_store.yaml"
    sqlite = next(line for line in file.read_text().splitlines() if line.startswith("online_store:"))
    settings = f"online_store: {{type: redis, url: '{server.url}', cluster: {str(is_cluster).lower()}}}"
    file.write_text(file.read_text().replace(sqlite, settings))


def killed(folder: Path, server: RedisServer, *, kills_redis: bool) -> bool:
    """Kill one of them once the stream got anywhere; a stream goes on with an empty Redis. False: it was done."""
    project = opened(folder)
    before, process = marks(project), start(folder, 1_000)
    wait_until(lambda: marks(project) > before or process.poll() is not None, "it streams", 120)
    unfinished = process.poll() is None
    if kills_redis:
        server.kill()
        server.start()
        wait_until(lambda: process.poll() is not None, "the stream ends", 120)
        assert process.returncode == 0
    else:
        process.kill()
        process.wait()
    project.online.close()
    return unfinished


@pytest.mark.slow
def test_kills_of_the_stream_and_of_its_redis_change_nothing(tmp_path: Path, server: RedisServer) -> None:
    source = generated(tmp_path, 30_000, 30)
    shop(tmp_path / "calm", source)
    drained(tmp_path / "calm")
    on_redis(tmp_path / "killed", source, server)
    cut = [killed(tmp_path / "killed", server, kills_redis=redis) for redis in (False, True, False, True)]
    assert sum(cut) >= 2
    drained(tmp_path / "killed")
    assert_alike(tmp_path / "killed", tmp_path / "calm")


def test_what_was_written_and_is_not_marked_is_covered_when_it_comes_again(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every event of the batch is in its states: nothing is left to be written."""
    source = generated(tmp_path, 2_000, 2)
    shop(tmp_path / "calm", source)
    drained(tmp_path / "calm")
    on_redis(tmp_path / "killed", source, server)
    with monkeypatch.context() as patched:
        patched.setenv(VARIABLE, "written")
        assert start(tmp_path / "killed", 10_000).wait(120) == -signal.SIGKILL
    assert [source.writes for source in drained(tmp_path / "killed").sources] == [0]
    assert_alike(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.parametrize("number", range(14, 104, 6))
def test_a_redis_that_is_emptied_in_between_gets_it_all_again(
    tmp_path: Path, server: RedisServer, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FLUSHALL ends no connection: before any of the calls that read or move what others rest on."""
    source = generated(tmp_path, 2_000, 8)
    shop(tmp_path / "calm", source)
    drained(tmp_path / "calm")
    on_redis(tmp_path / "emptied", source, server)
    calls = count()

    def after_a_flush(talk: Talk, original: Callable[..., Any], *words: Any) -> Any:
        if next(calls) == number:
            with server.client() as client:
                client.flushall()
        return original(talk, *words)

    for name in ("send", "ask"):  # both go on to the real ones, and one of the calls to an empty server
        monkeypatch.setattr(Talk, name, partialmethod(after_a_flush, getattr(Talk, name)))
    project = opened(tmp_path / "emptied")
    for batch_rows in (200, 100_000):  # the second has nothing to do but to see what is lost
        run(project, once=True, stop=threading.Event(), batch_rows=batch_rows)
    project.online.close()
    assert next(calls) > number
    assert_alike(tmp_path / "emptied", tmp_path / "calm")


def test_a_redis_that_loses_everything_while_it_is_written_gets_it_all_again(
    tmp_path: Path, server: RedisServer
) -> None:
    source = generated(tmp_path, 10_000, 20)
    shop(tmp_path / "calm", source)
    drained(tmp_path / "calm")
    on_redis(tmp_path / "killed", source, server)
    assert killed(tmp_path / "killed", server, kills_redis=True)
    assert_alike(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.slow
def test_two_streams_at_once_double_nothing_in_a_cluster(tmp_path: Path) -> None:
    source = generated(tmp_path, 20_000, 20)
    shop(tmp_path / "calm", source)
    drained(tmp_path / "calm")
    with redis_cluster() as cluster:
        on_redis(tmp_path / "both", source, cluster.nodes[0], is_cluster=True)
        processes = [start(tmp_path / "both", batch_rows) for batch_rows in (1_000, 1_700)]
        assert [process.wait(120) for process in processes] == [0, 0]
        assert_alike(tmp_path / "both", tmp_path / "calm")
