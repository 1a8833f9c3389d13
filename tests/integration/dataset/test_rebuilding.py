"""A dataset says what the logs held when it was built, and from that it can be built again, to the last bit."""

import json
from pathlib import Path

import pyarrow as pa

from featureflow_cli.api.tables import log_ends
from featureflow_cli.dataset.build import Dataset, build
from featureflow_cli.dataset.labels import labels_of
from featureflow_cli.evaluate.project import open_project
from tests.cli.projects import Bank

NOON_US = 1_767_268_800_000_000
LABELS = labels_of(pa.table({"card_id": ["c0", "c1"], "timestamp": ["2026-01-01T12:00:00Z"] * 2}))


def pay(bank: Bank, name: str, minutes: range) -> None:
    """Payments of two cards in the hour before noon."""
    lines = [
        {
            "id": f"{name}{n}",
            "card_id": f"c{n % 2}",
            "shop_id": 1,
            "amount": "1.25",
            "at": f"2026-01-01T11:{n}:00Z",
        }
        for n in minutes
    ]
    path = bank.root / "data" / "payments" / f"{name}.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, lines)))
    assert bank("stream", "--once").code == 0


def built(bank: Bank, ends: dict[str, dict[int, int]] | None = None) -> Dataset:
    project = open_project(bank.root, None, {}, lambda: NOON_US)
    return build(project, project.repo.services["fraud"], LABELS, ends=ends)


def test_late_events_and_compaction_do_not_change_a_dataset_built_again(tmp_path: Path) -> None:
    """By then its version of the log is gone: what it recorded of the log's ends is enough."""
    bank = Bank(tmp_path / "bank")
    assert bank("apply", "-y").code == 0
    pay(bank, "a", range(10, 30))
    first = built(bank)
    pay(bank, "b", range(20, 50))
    assert bank("compact").code == 0
    now = built(bank)
    assert not now.table.equals(first.table)
    again = built(bank, log_ends(first.table))
    assert again.table.equals(first.table)
    assert log_ends(again.table) == log_ends(first.table) != log_ends(now.table)
