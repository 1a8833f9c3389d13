"""`get` and `check-skew` as they are typed: what they print, and how they exit."""

import json
import sqlite3
import threading

import pytest

from featureflow_cli.evaluate.project import open_project
from featureflow_cli.stream.run import run
from featureflow_cli.times import SECOND_US, format_timestamp, system_clock
from tests.cli.projects import Bank


@pytest.fixture
def paid(bank: Bank) -> Bank:
    """Three payments of one card within the last minute, applied."""
    now_us = system_clock()
    lines = [
        {"id": f"p{place}", "card_id": "c/1", "shop_id": 7, "amount": amount, "at": format_timestamp(at_us)}
        for place, (amount, at_us) in enumerate(
            [
                ("10.50", now_us - 60 * SECOND_US),
                ("2.25", now_us - 40 * SECOND_US),
                ("0.01", now_us - 20 * SECOND_US),
            ]
        )
    ]
    events = bank.root / "data" / "payments" / "one.ndjson"
    events.parent.mkdir(parents=True)
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert bank("apply", "-y").code == 0
    project = open_project(bank.root, None, {}, system_clock)
    run(project, once=True, stop=threading.Event())
    project.online.close()
    return bank


def test_get_answers_now_from_the_online_store(paid: Bank):
    done = paid("get", "--service", "fraud", "--entity", "card_id=c/1")
    assert done.code == 0
    assert "card_spending__spent_24h     12.76" in done.stdout
    assert "card_spending__payments_1h   3" in done.stdout
    assert "card_spending  present" in done.stdout
    assert "from the online store" in done.stderr


def test_get_at_answers_what_was_known_strictly_before(paid: Bank):
    first = json.loads((paid.root / "data/payments/one.ndjson").read_text().splitlines()[1])["at"]
    done = paid("get", "--service", "fraud", "--entity", "card_id=c/1", "--at", first, "--json")
    body = json.loads(done.stdout)
    assert body["features"]["card_spending__spent_24h"] == "10.50"
    assert body["as_of"] == first
    assert body["status"] == {"card_spending": "present"}
    assert body["age_ms"] == {"card_spending": 20_000}


def test_get_before_the_first_event_knows_nobody(paid: Bank):
    done = paid(
        "get", "--features", "card_history:*", "--entity", "card_id=c/1", "--at", "2020-01-01", "--json"
    )
    body = json.loads(done.stdout)
    assert set(body["features"].values()) == {None}
    assert body["status"] == {"card_history": "unknown"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--service", "fraud", "--entity", "card_id"], "--entity takes KEY=VALUE, not 'card_id'"),
        (["--service", "fraud", "--entity", "card=1"], "unknown join key or request column 'card'"),
        (["--service", "frau", "--entity", "card_id=1"], "did you mean 'fraud'?"),
        (["--features", "card_spending:spent", "--entity", "card_id=1"], "did you mean 'spent_24h'?"),
        (
            ["--service", "fraud", "--entity", "card_id=1", "--at", "noon"],
            "'noon' is not an ISO 8601 timestamp",
        ),
        (["--entity", "card_id=1"], "name one --service or some --features"),
    ],
)
def test_get_says_what_is_wrong_with_the_words(paid: Bank, words: list[str], said: str):
    done = paid("get", *words)
    assert done.code == 2
    assert said in done.stderr


def test_check_skew_passes_with_one_line_an_entity(paid: Bank):
    done = paid("check-skew")
    assert done.code == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("ConsistencyReport")]
    assert lines == [
        "ConsistencyReport [PASSED] entity=card checked=1 flagged_features=[]",
        "ConsistencyReport [PASSED] entity=shop checked=1 flagged_features=[]",
    ]


def test_check_skew_exits_5_where_online_is_wrong(paid: Bank):
    """The card's state is gone, its other view's is not: what is served is null, training is not."""
    with sqlite3.connect(paid.root / "data/online.db") as connection:
        field = next(
            build.field
            for build in open_project(paid.root, None, {}, system_clock).registry.builds()
            if build.view == "card_spending"
        )
        connection.execute(f"UPDATE `bank/card` SET `{field}` = NULL")
    connection.close()
    done = paid("check-skew", "--entity", "card", "--json")
    assert done.code == 5
    (report,) = json.loads(done.stdout)
    assert not report["passed"]
    assert "card_spending__spent_24h" in report["flagged_features"]
    spent = next(each for each in report["features"] if each["feature"] == "card_spending__spent_24h")
    assert (spent["online"], spent["offline"]) == (None, "12.76")
    assert "online and offline disagree" in done.stderr


def test_check_skew_does_not_pass_where_it_compared_nothing(bank: Bank):
    """Streamed from no files: both stores are there, and empty."""
    bank("apply", "-y")
    assert bank("stream", "--once").code == 0
    done = bank("check-skew")
    assert done.code == 5
    assert "ConsistencyReport [FAILED] entity=card checked=0 flagged_features=[]" in done.stdout
    assert "nothing was compared of card, shop" in done.stderr
    assert "nothing was streamed yet" in done.stderr


def test_check_skew_does_not_pass_where_the_log_is_lost(paid: Bank, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("featureflow_cli.skew.check.LOG_WAIT_S", 0.0)
    (paid.root / "data" / "offline").rename(paid.root / "away")
    done = paid("check-skew", "--entity", "card")
    assert done.code == 5
    assert "hold events that the offline log does not" in done.stderr


def test_check_skew_knows_its_entities(paid: Bank):
    done = paid("check-skew", "--entity", "crad")
    assert done.code == 2
    assert "did you mean 'card'?" in done.stderr
