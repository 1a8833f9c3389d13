"""Data as shops export it: daily CSV files with quoted commas, line breaks, empty keys, no zones, ties, refunds."""

import csv
import random
import shutil
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from featureflow_cli.apply.execute import execute
from featureflow_cli.compute.reference import Event
from featureflow_cli.dataset.build import build
from featureflow_cli.dataset.labels import Labels
from featureflow_cli.evaluate.project import open_project
from featureflow_cli.evaluate.vector import Reader, values_of
from featureflow_cli.stream.run import run
from featureflow_cli.times import HOUR_US, parse_timestamp, system_clock
from tests.laws.telling import Told
from tests.repos.export.write import write

REPO = Path(__file__).parents[1] / "repos" / "export"
SAMPLED = 24


def exported(folder: Path) -> Iterator[Event]:
    """The lines, read by Python's csv module alone."""
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                yield {
                    "order_no": line["order_no"],
                    "customer": line["Customer, full name"] or None,
                    "article": line["Article"] or None,
                    "quantity": int(line["Qty"]),
                    "amount": Decimal(line["Amount (EUR)"]) if line["Amount (EUR)"] else None,
                    "booked": parse_timestamp(line["Booked"]),
                    "note": line["Note"] or None,
                }


@pytest.mark.parametrize("lines", [20_000, pytest.param(500_000, marks=pytest.mark.slow)])
def test_an_export_streams_and_its_dataset_is_what_the_definition_says(tmp_path: Path, lines: int):
    """Sampled rows of both paths, half of them at the very moment of an order."""
    shutil.copytree(REPO, tmp_path / "repo")
    write(tmp_path / "repo" / "data" / "orders", lines)
    project = open_project(tmp_path / "repo", None, {}, system_clock)
    execute(project, project.plan(), applied_by="test", report=lambda line: None)
    project = open_project(tmp_path / "repo", None, {}, system_clock)
    report = run(project, once=True, stop=threading.Event())
    assert [(source.accepted, source.letters) for source in report.sources] == [(lines, {})]

    chance = random.Random(9)
    events = list(exported(tmp_path / "repo" / "data" / "orders"))
    chosen = [each for each in chance.sample(events, 4 * SAMPLED) if each["customer"] and each["article"]][
        :SAMPLED
    ]
    asked = [{"customer": each["customer"], "article": chance.choice(chosen)["article"]} for each in chosen]
    customers, articles = ({row[name] for row in asked} for name in ("customer", "article"))
    known = [each for each in events if each["customer"] in customers or each["article"] in articles]
    service = project.repo.services["orders_v1"]
    told = Told(service, {"orders": known})

    moments = []
    for place, each in enumerate(chosen):
        assert isinstance(each["booked"], int)
        moments.append(each["booked"] + (place % 2) * chance.randrange(26 * HOUR_US))
    table = pa.table({name: pa.array([row[name] for row in asked], pa.string()) for name in asked[0]})
    built = build(project, service, Labels(table, np.array(moments, np.int64), "timestamp"), keep_cold=True)
    columns = {name: values_of(built.table.column(name).combine_chunks()) for name, _ in service.outputs}
    found = []
    for place, (row, moment) in enumerate(zip(asked, moments, strict=True)):
        actual = {name: values[place] for name, values in columns.items()}
        found += told.differences(row, moment, actual)

    now_us = max(each["booked"] for each in events if isinstance(each["booked"], int)) + 1
    reader = Reader(project.online, service, project.serving())
    for row, vector in zip(asked, reader.read(asked, now_us, as_of_us=now_us), strict=True):
        found += told.differences(row, now_us, vector.features)
    assert found == []
