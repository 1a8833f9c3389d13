"""The verbs that only look: ls, describe, status, doctor, schema; and dead letters, listed and asked to be replayed."""

import json

import pyarrow as pa
import pytest

from featureflow_cli.evaluate.project import open_project
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.stream.intake import FileIntake
from featureflow_cli.stream.replays import REPLAY, WithReplays
from tests.cli.projects import Bank

NOW_US = 1_767_225_600_000_000


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_ls_tells_written_from_applied(bank: Bank):
    assert {entry["state"] for entry in json.loads(bank("ls", "--json").stdout)} == {"new"}
    bank("apply", "-y")
    bank.replace("ttl: 7d", "ttl: 8d")
    bank.replace('  - {name: sales, features: ["shop_sales:*"]}\n', "")
    states = {
        f"{entry['kind']} {entry['name']}": entry["state"]
        for entry in json.loads(bank("ls", "--json").stdout)
    }
    assert states["view card_spending"] == "changed"
    assert states["view shop_sales"] == "applied"
    assert states["service sales"] == "removed"


def test_ls_of_one_kind(bank: Bank):
    assert lines(bank("ls", "services").stdout) == [
        ["KIND", "NAME", "STATE", "OWNER", "DESCRIPTION"],
        ["service", "fraud", "new", "-"],
        ["service", "sales", "new", "-"],
    ]
    unknown = bank("ls", "servces")
    assert unknown.code == 2
    assert "did you mean 'service" in unknown.stderr


def test_describe_shows_parts_and_users(bank: Bank):
    view = json.loads(bank("describe", "view/card_spending", "--json").stdout)
    assert [feature["name"] for feature in view["features"]] == ["spent_24h", "payments_1h", "payments_24h"]
    assert view["services"] == ["fraud"]
    assert view["on-demand"] == ["share"]
    assert json.loads(bank("describe", "payments", "--json").stdout)["kind"] == "source"
    for reference in (
        "entity/card",
        "source/payments",
        "view/card_history",
        "on-demand/share",
        "service/fraud",
    ):
        kind, name = reference.split("/")
        assert bank("describe", reference).stdout.splitlines()[0] == f"{kind} {name}"


def test_describe_of_what_is_not_there(bank: Bank):
    done = bank("describe", "view/card_spendings")
    assert done.code == 2
    assert "did you mean 'card_spending'?" in done.stderr


def test_validate_answers_problems_as_json(bank: Bank):
    assert json.loads(bank("validate", "--json").stdout)["valid"] is True
    bank.replace("sum: amount", "sun: amount")
    bank.replace("entity: shop", "entity: shopp")
    done = bank("validate", "--json")
    report = json.loads(done.stdout)
    assert done.code == 3
    assert report["valid"] is False
    assert len(report["problems"]) >= 2
    assert all(problem["at"].startswith("features/bank.yaml:") for problem in report["problems"])


@pytest.mark.parametrize(("document", "key"), [("store", "project"), ("features", "entities")])
def test_schema_is_a_schema(bank: Bank, document: str, key: str):
    assert key in json.loads(bank("schema", document).stdout)["properties"]


def test_status_before_and_after_apply(bank: Bank):
    before = bank("status")
    assert before.code == 2
    assert "nothing is applied yet" in before.stderr
    assert "run: featureflow apply" in before.stderr
    bank("apply", "-y")
    after = json.loads(bank("status", "--json").stdout)
    assert after["applied"]["version"] == 1
    assert {view["status"] for view in after["views"]} == {"building"}
    text = bank("status")
    assert text.stdout.startswith("bank: version 1, applied ")
    assert "featureflow stream --once" in text.stderr


def test_status_of_a_table_says_which_of_its_files_the_states_know(bank: Bank):
    bank.replace(
        'stream: {files: {path: "data/payments/*.ndjson"}}', 'batch: {path: "data/payments/*.ndjson"}'
    )
    bank("apply", "-y")
    files = bank.root / "data" / "payments"
    files.mkdir()
    payment = '{"id": "a", "card_id": "c", "amount": "1.00", "at": "2026-01-01T00:00:00Z"}\n'
    (files / "1.ndjson").write_text(payment)
    assert bank("stream", "--once").code == 0
    (files / "2.ndjson").write_text(payment)
    (bank.root / "labels.csv").write_text("card_id,timestamp\nc,2026-01-02T00:00:00Z\n")
    lists = bank("build-dataset", "--labels", "labels.csv", "--service", "fraud", "--output", "train.csv")
    assert lists.code == 0, lists.stderr

    def standing() -> tuple[object, ...]:
        found = json.loads(bank("status", "--json").stdout)
        (source,) = found["sources"]
        behind = {view["behind"] for view in found["views"]}
        return source["events"], source["files_read"], source["files_listed"], source["bytes"], behind

    assert standing() == (None, 1, 2, 2 * len(payment), {1})
    assert "featureflow stream --once" in bank("status").stderr
    assert bank("stream", "--once").code == 0
    assert standing() == (None, 2, 2, 2 * len(payment), {0})
    assert bank("status").stdout.splitlines()[3].split()[:4] == ["payments", "-", "-", "2/2"]


def test_doctor_notes_what_is_missing_and_fails_for_what_is_broken(bank: Bank):
    fresh = bank("doctor")
    assert fresh.code == 0, fresh.stdout
    assert "nothing is applied yet" in fresh.stdout
    assert not (bank.root / "data").exists()
    bank("apply", "-y")
    (bank.root / "data" / "registry.db").write_bytes(b"rubbish" * 1000)
    bank.replace("sum: amount", "sun: amount")
    broken = json.loads(bank("doctor", "--json").stdout)
    assert broken["healthy"] is False
    health = {finding["check"]: finding["health"] for finding in broken["findings"]}
    assert health["registry"] == health["definitions"] == "failed"
    assert health["engine"] == health["disk"] == "ok"
    assert bank("doctor").code == 5


def letter(bank: Bank, offset: int, payload: bytes, reason: str = "wrong_type") -> None:
    letters = DeadLetters(open_project(bank.root, None, {}, lambda: NOW_US).letters_place)
    moment = pa.array([NOW_US + offset], pa.timestamp("us", tz="UTC"))
    row = {
        "source": ["payments"],
        "partition": [-1],
        "offset": [offset],
        "reason": [reason],
        "detail": ["amount: much"],
        "payload": [payload],
    }
    letters.append(pa.table({**row, "recorded_at": moment, "lettered_at": moment}))


def test_dead_letters_are_listed_with_their_reasons(bank: Bank):
    bank("apply", "-y")
    assert bank("dead-letters", "list").stderr == "No dead letters.\n"
    letter(bank, 3, b'{"amount": "much"}')
    letter(bank, 5, b"{", "undecodable")
    done = bank("dead-letters", "list")
    assert [line[:4] for line in lines(done.stdout)[1:]] == [
        ["payments", "-1:3", "wrong_type", "no"],
        ["payments", "-1:5", "undecodable", "no"],
    ]
    assert "2 letters (1 undecodable, 1 wrong_type)" in done.stderr
    (only,) = json.loads(bank("dead-letters", "list", "--reason", "wrong_type", "--json").stdout)
    assert only["payload"] == '{"amount": "much"}'
    assert only["lettered_at"] == "2026-01-01T00:00:00.000003Z"
    newest = bank("dead-letters", "list", "--limit", "1")
    assert [line[1] for line in lines(newest.stdout)[1:]] == ["-1:5"]
    assert "2 letters (1 undecodable, 1 wrong_type); 1 shown" in newest.stderr
    unknown = bank("dead-letters", "list", "--source", "payment")
    assert unknown.code == 2
    assert "did you mean 'payments'?" in unknown.stderr


def test_a_letter_is_replayed_once_as_a_new_event(bank: Bank):
    bank("apply", "-y")
    letter(bank, 3, b'{"amount": "1.00"}')
    letter(bank, 5, b'{"amount": "2.00"}')
    letter(bank, 7, b"{", "undecodable")
    assert json.loads(bank("dead-letters", "replay", "--position", "-1:5", "--json").stdout) == {
        "replayed": {"payments": 1}
    }
    done = bank("dead-letters", "replay", "--reason", "wrong_type")
    assert done.stdout == "payments: 1 letters will be replayed\n"
    assert "featureflow stream --once" in done.stderr
    assert bank("dead-letters", "replay", "--reason", "wrong_type").stderr == "No dead letters to replay.\n"
    for position in ("-1:99999", "5"):
        missed = bank("dead-letters", "replay", "--position", position)
        assert missed.code == 2 and f"no such dead letter: {position}" in missed.stderr
    project = open_project(bank.root, None, {}, lambda: NOW_US)
    payments = project.repo.sources["payments"]
    events = FileIntake(project.root, lambda reached: [])
    intake = WithReplays(events, project.registry, DeadLetters(project.letters_place), "payments")
    assert intake.partitions() == [*events.partitions(), REPLAY]
    ((batch,),) = intake.read(payments, {REPLAY: 0}, 10).values()
    assert list(batch.content) == [b'{"amount": "2.00"}', b'{"amount": "1.00"}']
    assert (batch.offsets.tolist(), batch.end) == ([0, 1], 2)
    ((rest,),) = intake.read(payments, {REPLAY: 1}, 10).values()
    assert list(rest.content) == [b'{"amount": "1.00"}']
    assert intake.read(payments, {REPLAY: 2}, 10) == {}
