"""`featureflow test`: the YAML's unit tests, by every evaluator."""

import json

import pytest

from tests.cli.projects import Bank

TESTS = """
unit_tests:
  - name: only the last day counts
    view: card_spending
    given:
      - {id: a, card_id: x, amount: "5.00", at: 2026-01-01T10:00:00Z}
      - {id: b, card_id: x, amount: "0.10", at: 2026-01-02T10:30:00Z}
      - {id: c, card_id: y, amount: "9.00", at: 2026-01-02T10:30:00Z}
      - {id: d, card_id: x, amount: "7.00", at: 2026-01-02T11:00:00Z}
    at: {card_id: x, timestamp: 2026-01-02T11:00:00Z}
    expect: {spent_24h: "0.10", payments_1h: 1}
  - name: a card without payments is unknown
    view: card_spending
    given: []
    at: {card_id: nobody, timestamp: 2026-01-02T11:00:00Z}
    expect: {spent_24h: null, payments_24h: null}
  - name: a share is on demand
    service: fraud
    given:
      - {card_id: x, amount: "5.00", at: 2026-01-02T10:00:00Z}
      - {card_id: x, amount: "1.00", at: 2026-01-02T10:10:00Z}
    at: {card_id: x, timestamp: 2026-01-02T11:00:00Z}
    expect: {card_spending__spent_24h: 6, share: 3.0}
  - name: ranks compare shops
    view: shop_sales
    given:
      - {card_id: x, shop_id: 1, at: 2026-01-02T10:00:00Z}
      - {card_id: x, shop_id: 1, at: 2026-01-02T10:01:00Z}
      - {card_id: x, shop_id: 2, at: 2026-01-02T10:02:00Z}
    at: {shop_id: 2, timestamp: 2026-01-02T10:30:00Z}
    expect: {sold_1h: 1, popularity: 0.5}
"""


@pytest.fixture
def tested(bank: Bank) -> Bank:
    bank.edit(lambda text: text + TESTS)
    return bank


def test_tests_run_on_what_is_written_without_any_store(tested: Bank):
    done = tested("test")
    assert done.code == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "ok    only the last day counts",
        "ok    a card without payments is unknown",
        "ok    a share is on demand",
        "ok    ranks compare shops",
        "4 passed, 0 failed, each by reference, state, dataset, sql",
    ]
    assert not (tested.root / "data").exists()


def test_a_wrong_expectation_fails_with_what_was_given(tested: Bank):
    tested.replace(
        'expect: {spent_24h: "0.10", payments_1h: 1}', 'expect: {spent_24h: "0.11", payments_1h: 1}'
    )
    done = tested("test", "only the last day counts")
    assert done.code == 5
    assert done.stdout.splitlines() == [
        "FAIL  only the last day counts",
        "        card_spending__spent_24h: expected 0.11, got 0.10",
        "0 passed, 1 failed, each by reference, state, dataset, sql",
    ]
    report = json.loads(tested("test", "--json").stdout)
    assert (report["passed"], report["failed"]) == (3, 1)
    assert [found["evaluator"] for found in report["tests"][0]["mismatches"]] == report["evaluators"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('amount: "5.00", at: 2026-01-01', "amount: much, at: 2026-01-01", "given[0]"),
        ('spent_24h: "0.10"', "spent_24h: a lot", '"a lot" is no decimal(38,2)'),
        ("at: {shop_id: 2,", "at: {shop_id: two,", "shop_id"),
    ],
)
def test_what_does_not_fit_its_type_is_a_wrong_definition(tested: Bank, old: str, new: str, complaint: str):
    tested.replace(old, new)
    done = tested("test")
    assert done.code == 3, done.stdout
    assert complaint in done.stderr


def test_an_unknown_test_gets_a_hint(tested: Bank):
    done = tested("test", "ranks compare shop")
    assert done.code == 2
    assert "did you mean 'ranks compare shops'?" in done.stderr
