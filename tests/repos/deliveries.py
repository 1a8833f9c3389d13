"""Seeded events for the repos beside this file and for the shop: as the source delivers them, and as rows.

`Delivery.event` is the row of the source's columns, made without the product's decoding; `raw` is what stands in
the file. Files are written by time slices, so that a test can stream only what lies before a moment.
"""

import csv
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featureflow_cli.generate.files import events_table
from featureflow_cli.generate.shop import Scale, deliveries, simulate
from featureflow_cli.spec.types import Value
from featureflow_cli.times import DAY_US, HOUR_US, SECOND_US, format_timestamp, parse_timestamp

START_US = parse_timestamp("2026-03-25")  # Europe's clocks change within
Event = dict[str, Value]


@dataclass(frozen=True)
class Delivery:
    """One delivery of `event` by `source`; `raw` is what its file holds of it."""

    source: str
    event: Event
    raw: Any
    ts_us: int


def shop(events: int, span_us: int) -> list[Delivery]:
    """The generator's own events: 2% late, 1% delivered twice, in order of arrival."""
    scale = Scale(
        events,
        users=max(events // 50, 5),
        items=max(events // 200, 5),
        span_us=span_us,
        end_us=START_US + span_us,
    )
    simulated = simulate(scale)
    table = events_table(simulated, scale).take(pa.array(deliveries(simulated, scale)))
    found = []
    for place, row in enumerate(table.cast(_with_integer_time(table.schema)).to_pylist()):
        about = row["metadata"]
        amount = about["total_amount"]
        event = {
            name: row[name]
            for name in ("event_id", "user_id", "event_type", "item_id", "session_id", "timestamp")
        }
        event |= {"category": about["category"], "rating": about["rating"]}
        event["total_amount"] = None if amount is None else Decimal(amount)
        found.append(Delivery("user_events", event, table.slice(place, 1), row["timestamp"]))
    return found


def _with_integer_time(schema: pa.Schema) -> pa.Schema:
    return schema.set(schema.get_field_index("timestamp"), pa.field("timestamp", pa.int64()))


def fraud(count: int, span_us: int, seed: int = 3) -> list[Delivery]:
    """Card payments as NDJSON: unicode keys, nulls, negative amounts, ties, late ones, second deliveries."""
    chance = random.Random(seed)
    found: list[Delivery] = []
    for place in range(count):
        at_ms = (START_US + place * span_us // count) // 1000 + chance.randrange(-400, 400)
        late = chance.random() < 0.02
        if late:
            at_ms -= chance.randrange(26 * HOUR_US // 1000)
        elif found and chance.random() < 0.05:
            at_ms = found[-1].ts_us // 1000  # a tie
        at_ms = max(at_ms, START_US // 1000)
        cents, fee = (
            chance.randrange(-20_000, 900_000),
            chance.choice([None, 0.0, -0.0, chance.gauss(2, 40), 1e9]),
        )
        event: Event = {
            "payment_id": f"p{place}",
            "card_id": chance.choice(
                [
                    None,
                    "käte,7",
                    "a%b",
                    "🂡",
                    *(f"c{min(int(chance.paretovariate(0.6)), 60)}" for _ in range(9)),
                ]
            ),
            "merchant_id": chance.choice([None, *range(12)]),
            "amount": None if chance.random() < 0.05 else Decimal(cents).scaleb(-2),
            "fee": fee,
            "points": chance.choice([None, 0, 5, -(2**62), 2**62]),
            "country": chance.choice(["DE", "FR", "É", "日本", None, "US", "AT", "CH"]),
            "declined": chance.choice([True, False, False, None]),
            "at": at_ms * 1000,
        }
        message = {**event, "amount": None if event["amount"] is None else str(event["amount"]), "at": at_ms}
        raw = json.dumps(
            {name: value for name, value in message.items() if value is not None or chance.random() < 0.5}
        )
        found.append(Delivery("payments", event, raw, at_ms * 1000))
        if not late and chance.random() < 0.01:  # one that is remembered: see design.md 1.6
            found.append(found[-1])
    return found


def accounts(count: int, span_us: int, seed: int = 4) -> list[Delivery]:
    """Rows of two tables that others keep, with deletions, and ties that created_timestamp or the text breaks."""
    chance = random.Random(seed)
    found: list[Delivery] = []
    for place in range(count):
        at_s = (START_US + place * span_us // count) // SECOND_US
        if chance.random() < 0.3 and found:
            at_s = found[-1].ts_us // SECOND_US
        region, moment_us = chance.choice(["nord", "süd, mitte", "o%st", ""]), at_s * SECOND_US
        if chance.random() < 0.2:
            found.append(_region_row(chance, region or "nord", moment_us))
            continue
        loaded_s = chance.choice([None, at_s, at_s + 5])
        credit = chance.choice(
            [None, Decimal(chance.randrange(-(10**12), 10**12)).scaleb(-4), Decimal("9999999999999999.9999")]
        )
        event: Event = {
            "region": region or None,
            "account_id": chance.choice([None, *range(25)]),
            "plan": chance.choice(["free", "pro", 'with "quotes", and commas', None]),
            "credit": credit,
            "verified": chance.choice([True, False, None]),
            "opened": chance.choice([None, 19_000 + chance.randrange(2000)]),
            "op": chance.choice(["u", "u", "u", "d", None]),
            "changed_at": moment_us,
            "loaded_at": None if loaded_s is None else loaded_s * SECOND_US,
        }
        opened = event["opened"]
        assert opened is None or isinstance(opened, int)
        fields = [
            region,
            event["account_id"],
            event["plan"],
            credit if credit is None else format(credit, "f"),
            {True: "true", False: "false", None: None}[event["verified"]],  # type: ignore[index]
            None if opened is None else format_timestamp(opened * DAY_US)[:10],
            event["op"],
            at_s,
            loaded_s,
        ]
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(["" if field is None else field for field in fields])
        found.append(Delivery("accounts", event, line.getvalue(), moment_us))
    return found


def _region_row(chance: random.Random, region: str, moment_us: int) -> Delivery:
    embedding = chance.choice([None, (), tuple(chance.gauss(0, 1) for _ in range(3))])
    event: Event = {
        "region": region,
        "score": chance.choice([None, 0.1, 1e16, -2.5]),
        "embedding": embedding,
        "tags": chance.choice([None, ("a", "é"), ()]),
        "seen_at": moment_us,
    }
    seen_at = format_timestamp(moment_us)[:19].replace("T", " ")
    return Delivery("regions", event, json.dumps({**event, "seen_at": seen_at}), moment_us)


def put(root: Path, name: str, some: Sequence[Delivery]) -> None:
    """Write the deliveries as new files called `name`, in their order."""
    by_source: dict[str, list[Any]] = {}
    for delivery in some:
        by_source.setdefault(delivery.source, []).append(delivery.raw)
    for source, raw in by_source.items():
        if source == "user_events":
            _whole(
                root / "data" / "events" / f"{name}.parquet",
                lambda path, raw=raw: pq.write_table(pa.concat_tables(raw), path),
            )
        elif source == "accounts":
            head = "region,account_id,plan,credit,verified,opened,op,changed_at,loaded_at\n"
            _text(root / "data" / "accounts" / f"{name}.csv", head + "".join(raw))
        else:
            folder = "events" if source == "payments" else source
            _text(root / "data" / folder / f"{name}.ndjson", "".join(f"{line}\n" for line in raw))


def _text(path: Path, text: str) -> None:
    _whole(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def _whole(path: Path, write: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    write(unfinished)
    unfinished.rename(path)
