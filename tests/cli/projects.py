"""A small project to run commands on, and the command line itself, as tests call it."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from featureflow_cli.cli.main import app

STORE = """\
version: 1
project: bank
targets:
  prod: {registry: data/prod.db}
"""
FEATURES = """\
entities:
  - {name: card, join_keys: {card_id: string}}
  - {name: shop, join_keys: {shop_id: int64}}

sources:
  - name: payments
    schema: {id: string, card_id: string not null, shop_id: int64, amount: "decimal(12,2)", at: timestamp}
    timestamp_field: at
    event_id: id
    dedupe_within: 1h
    stream: {files: {path: "data/payments/*.ndjson"}}

feature_views:
  - name: card_spending
    description: What a card pays
    entity: card
    source: payments
    ttl: 7d
    features:
      - {name: spent_24h, sum: amount, window: 24h}
      - {name: "payments_{window}", count: "*", windows: [1h, 24h]}
  - name: card_history
    entity: card
    source: payments
    features:
      - {name: shops, top_k: {of: shop_id, k: 3}, window: 24h}
      - {name: paid_exactly, sum: amount, window: 1h, resolution: exact}
      - {name: first_payment, first: amount, window: forever}
  - name: shop_sales
    entity: shop
    source: payments
    features:
      - {name: sold_1h, count: "*", window: 1h}
      - {name: popularity, rank: {of: sold_1h}, refresh: 1m}

on_demand_features:
  - {name: share, expr: "card_spending.spent_24h / nullif(card_spending.payments_24h, 0)"}

feature_services:
  - {name: fraud, features: ["card_spending:*", share]}
  - {name: sales, features: ["shop_sales:*"]}
"""


@dataclass(frozen=True)
class Done:
    """How a command ended: both streams whole, and the exit code."""

    code: int
    stdout: str
    stderr: str


class Bank:
    """The project in a folder of its own; calling it runs a command there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.features = root / "features" / "bank.yaml"
        self.features.parent.mkdir(parents=True)
        (root / "feature_store.yaml").write_text(STORE)
        self.features.write_text(FEATURES)

    def __call__(self, *words: str, stdin: str | None = None) -> Done:
        done = CliRunner().invoke(app, ["-c", str(self.root), *words], input=stdin)
        return Done(done.exit_code, done.stdout, done.stderr)

    def edit(self, change: Callable[[str], str]) -> None:
        before = self.features.read_text()
        after = change(before)
        assert after != before, "this edit changes nothing"
        self.features.write_text(after)

    def replace(self, old: str, new: str) -> None:
        self.edit(lambda text: text.replace(old, new))


def golden(name: str, actual: str) -> None:
    """Compares with tests/cli/golden/NAME; UPDATE_GOLDEN=1 writes the file first, to be looked at."""
    path = Path(__file__).parent / "golden" / name
    actual = re.sub(r"\([0-9a-f]{4}\.\d+\.[0-9a-f]{6}\)", "(FIELD)", actual)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(actual)
    assert actual == path.read_text(), f"{path.name} differs; UPDATE_GOLDEN=1 accepts it"
