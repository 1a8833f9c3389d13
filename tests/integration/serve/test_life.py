"""A server's life: it starts, follows what is applied, outlasts its store, and ends in order."""

import shutil
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.serve.shop import Server, Shop

ASKED = {"service": "ranking_v1", "entities": {"user_id": 1, "item_id": 1}}


def move(root: Path, source: str, target: str) -> None:
    """The online store's file with its log, to another name."""
    for ending in ("", "-wal", "-shm"):
        (root / f"data/{target}{ending}").unlink(missing_ok=True)
        if (root / f"data/{source}{ending}").exists():
            (root / f"data/{source}{ending}").rename(root / f"data/{target}{ending}")


def test_an_applied_change_is_served_without_a_restart(own: Shop):
    with Server(own.root) as server:
        assert server.http.get("/features/user/1?features=user_activity:searches_24h").status_code == 404
        users = own.root / "features" / "users.yaml"
        line = "      - {name: cart_count_1h,"
        text = users.read_text()
        assert line in text
        searches = "      - {name: searches_24h, count: \"*\", where: event_type = 'search', window: 24h}\n"
        users.write_text(text.replace(line, searches + line))
        own.apply()
        # Until the new state is built the old one serves; then the new one does.
        assert server.vector(ASKED).status_code == 200
        own.stream()
        server.wait(
            lambda: server.http.get("/features/user/1?features=user_activity:searches_24h").status_code == 200
        )
        assert server.vector(ASKED).json()["registry_version"] == 2


def test_a_store_that_is_away_is_503_at_once_and_back_by_itself(own: Shop):
    with Server(own.root) as server:
        before = server.vector({**ASKED, "as_of": "2026-04-20T00:00:00Z"})
        assert before.status_code == 200
        move(own.root, "online.db", "away.db")
        for _ in range(3):
            answer = server.vector(ASKED)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.elapsed.total_seconds() < 2
        assert server.http.get("/ready").status_code == 503
        assert server.http.get("/health").status_code == 200
        move(own.root, "away.db", "online.db")
        server.wait(lambda: server.vector(ASKED).status_code == 200)
        assert server.vector({**ASKED, "as_of": "2026-04-20T00:00:00Z"}).json() == before.json()


def test_a_store_that_is_copied_back_is_served_again(own: Shop):
    """Whoever asks meanwhile makes no empty store in its place: a copy would be read with that one's log."""
    with sqlite3.connect(own.root / "data/online.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with Server(own.root) as server:
        before = server.vector({**ASKED, "as_of": "2026-04-20T00:00:00Z"})
        move(own.root, "online.db", "away.db")
        for _ in range(3):
            assert server.vector(ASKED).status_code == 503
            assert not (own.root / "data/online.db").exists()
        shutil.copyfile(own.root / "data/away.db", own.root / "data/online.db")
        server.wait(lambda: server.vector(ASKED).status_code == 200)
        assert server.vector({**ASKED, "as_of": "2026-04-20T00:00:00Z"}).json() == before.json()


def test_a_registry_that_is_away_changes_nothing_for_those_who_read(own: Shop):
    registry, away = own.root / "data/registry.db", own.root / "data/away.db"
    with Server(own.root) as server:
        registry.rename(away)
        assert server.http.get("/ready").status_code == 503
        assert server.vector(ASKED).status_code == 200
        away.rename(registry)
        server.wait(lambda: server.http.get("/ready").status_code == 200)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=20) == 0


def test_a_damaged_state_fails_its_own_entity_only(own: Shop):
    known = [each.event["user_id"] for each in own.delivered]
    broken, other = known[0], next(user for user in known if user != known[0])
    with sqlite3.connect(own.root / "data/online.db") as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info('shop/user')")]
        blob = next(name for name in columns if f"{name}@" in columns)
        connection.execute(f"UPDATE `shop/user` SET `{blob}` = x'00' WHERE id = ?", (str(broken),))
    connection.close()
    with Server(own.root) as server, ThreadPoolExecutor(8) as clients:
        users = [broken, other] * 8
        answers = list(clients.map(lambda user: server.http.get(f"/features/user/{user}"), users))
    for user, answer in zip(users, answers, strict=True):
        assert answer.status_code == (500 if user == broken else 200)
    assert answers[0].json()["error"]["code"] == "corrupt_state"


def test_sigterm_ends_it_in_order(own: Shop):
    with Server(own.root) as server:
        assert server.vector(ASKED).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=20) == 0


def test_workers_share_the_port_and_their_counts(own: Shop):
    with Server(own.root, "--workers", "2") as server:
        for _ in range(10):
            server.http.close()
            server.http = type(server.http)(base_url=server.http.base_url)
            assert server.vector(ASKED).status_code == 200
        text = server.http.get("/metrics").text
        line = next(each for each in text.splitlines() if each.startswith("featureflow_vectors_total"))
        assert float(line.rpartition(" ")[2]) == 10
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=20) == 0


def test_views_that_are_not_built_yet_are_said_by_ready(own: Shop):
    for path in (own.root / "data").glob("*.db*"):
        path.unlink()
    own.apply()
    with Server(own.root, ready=False) as server:
        answer = server.http.get("/ready")
        assert answer.status_code == 503
        assert answer.json()["reasons"][0] == "the online state of item_activity is not built yet"
        refused = server.vector(ASKED)
        assert (refused.status_code, refused.json()["error"]["hint"]) == (503, "run: featureflow stream")


def test_a_port_that_is_taken_is_a_clear_error(own: Shop):
    with Server(own.root) as server:
        port = str(server.http.base_url.port)
        second = Server(own.root, "--port", port, ready=False)
        with pytest.raises(AssertionError, match="cannot listen on"):
            second.__enter__()
        second.process.wait(timeout=20)
        assert second.process.returncode == 4
        second.process.stderr.close()  # type: ignore[union-attr]
