"""`doctor` and `status` of a project whose states are in Redis."""

import json

import pytest

from tests.cli.projects import Bank
from tests.services.redis import RedisServer, redis_server

pytestmark = pytest.mark.service("redis")


def online(bank: Bank) -> tuple[str, str]:
    """The health of the online store, and what is said of it."""
    findings = json.loads(bank("doctor", "--json").stdout)["findings"]
    (finding,) = [each for each in findings if each["check"] == "online store"]
    return finding["health"], f"{finding['what']} {finding['hint']}"


def keep_in(server: RedisServer, bank: Bank) -> None:
    """The bank's states lie on the server, whose password is that of the environment."""
    file = bank.root / "feature_store.yaml"
    url = server.url.replace("hunter2", "${env:REDIS_PASSWORD}")
    file.write_text(file.read_text() + f"online_store: {{type: redis, url: '{url}'}}\n")


def test_doctor_recommends_and_warns_and_fails(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    with redis_server(user="shop", password="hunter2") as server:
        keep_in(server, bank)
        health, said = online(bank)
        assert health == "warning"
        assert "hash-max-listpack-value is 64; with 1024" in said
        with server.client() as client:
            client.config_set("hash-max-listpack-value", 1024)
        assert online(bank) == ("ok", f"redis://127.0.0.1:{server.port}/0 answers, holds 0 B ")
        with server.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        health, said = online(bank)
        assert health == "failed"
        assert "may evict" in said
        bank("apply", "-y")
        server.stop()
        health, said = online(bank)
        assert health == "failed"
        assert f"redis://127.0.0.1:{server.port}/0" in said
        for command in ("doctor", "status"):
            done = bank(command)
            assert "hunter2" not in done.stdout + done.stderr
        assert bank("status").code == 4


def test_plan_and_apply_warn_of_a_redis_that_cannot_be_used_and_need_it_only_to_drop_states(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server(user="shop", password="hunter2") as server:
        keep_in(server, bank)
        monkeypatch.setenv("REDIS_PASSWORD", "hunter3")
        for command in (("plan",), ("apply", "-y"), ("plan",)):
            done = bank(*command)
            assert done.code == 0
            assert "warning: the online store cannot be used" in done.stderr
            assert f"redis://127.0.0.1:{server.port}/0" in done.stderr
            assert "hunter" not in done.stdout + done.stderr
        monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
        assert "warning" not in bank("plan").stderr
        bank.replace("window: 24h}", "window: 12h}")
        server.stop()
        pending = bank("plan").stdout
        assert "drop the state of view card_spending" in pending
        assert bank("apply", "-y").code == 4
        assert bank("plan").stdout == pending, "nothing was applied"
        server.start()
        assert bank("apply", "-y").code == 0
