"""`featureflow compact`: what it says it did, and that no event changes by it."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.projects import Bank, Done, golden


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """Its payments of one day came in three commits, a refused one among them."""
    made = Bank(tmp_path / "bank")
    assert made("apply", "-y").code == 0
    folder = made.root / "data/payments"
    folder.mkdir(parents=True)
    for number in range(3):
        event = {"id": f"p{number}", "card_id": "c", "shop_id": number, "amount": "1.25"}
        (folder / f"{number}.ndjson").write_text(json.dumps(event | {"at": "2026-01-01T00:00:00Z"}) + "\n[]")
        assert made("stream", "--once").code == 0
    return made


def sizes_hidden(done: Done) -> str:
    return re.sub(r"\d[\d.]* (?:B|kB)", "SIZE", done.stdout)


def test_small_files_are_joined_once(bank: Bank) -> None:
    """First asked what it would do, then asked to; what the log holds stays as it was."""
    before = json.loads(bank("status", "--json").stdout)["sources"][0]["events"]
    dry = bank("compact", "--dry-run")
    assert "Nothing was changed" in dry.stderr
    first, second = bank("compact"), bank("compact")
    golden("compact.txt", "".join(sizes_hidden(done) for done in (dry, first, second)))
    assert json.loads(bank("status", "--json").stdout)["sources"][0]["events"] == before == 3
    assert len(json.loads(bank("dead-letters", "list", "--json").stdout)) == 3
    assert bank("check-skew").code == 0


def test_json_says_all_of_it(bank: Bank) -> None:
    done = json.loads(bank("compact", "--source", "payments", "--vacuum", "--json").stdout)
    (table,) = done["tables"]
    sizes = (table.pop("bytes_before"), table.pop("bytes_after"))
    assert table == {"table": "payments", "before": 3, "after": 1, "days": 1, "deleted": 0}
    assert sizes[0] > sizes[1] > 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--source", "paymnts"), 2, "did you mean 'payments'"),
        (("--vacuum", "--retention", "soon"), 2, "'soon' is not a duration"),
        (("--vacuum", "--retention", "2h"), 2, "at least 1d"),
    ],
)
def test_what_cannot_be_asked_is_said(bank: Bank, words: tuple[str, ...], code: int, said: str) -> None:
    done = bank("compact", *words)
    assert (done.code, said in done.stderr) == (code, True), done.stderr


def test_its_help_names_its_options(bank: Bank) -> None:
    done = bank("compact", "--help")
    for word in (
        "--source",
        "--vacuum",
        "--retention",
        "--dry-run",
        "--json",
        "Example: featureflow compact",
    ):
        assert word in done.stdout
