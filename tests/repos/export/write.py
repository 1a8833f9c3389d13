"""Write orders as a shop exports them: daily CSV files with all that such files have (seeded).

python tests/repos/export/write.py FOLDER --lines 500000
"""

import argparse
import csv
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

HEADER = ("order_no", "Customer, full name", "Article", "Qty", "Amount (EUR)", "Booked", "Note")
FIRST_DAY = datetime(2026, 3, 20, tzinfo=UTC)
NOTES = ("", "gift", 'said "call first"', "leave it\nwith the neighbour", "a,b,c", "größer", "  ")


def rows(lines: int, days: int, seed: int) -> Iterator[tuple[datetime, tuple[str, ...]]]:
    """Each line's day and its fields; about one in fifty repeats the moment of the line before it."""
    chance = random.Random(seed)
    customers = [f"Nr. {number}, Köln" if number % 3 else f'"{number}"' for number in range(4_000)]
    articles = [f"A-{number:04d}" for number in range(800)]
    moment = FIRST_DAY
    for number in range(lines):
        if chance.random() > 0.02:
            moment = FIRST_DAY + timedelta(days=number * days / lines, seconds=chance.randrange(3600))
        cents = chance.randrange(-9_000, 60_000)
        yield (
            moment,
            (
                f"{number:07d}",
                "" if chance.random() < 0.02 else customers[min(int(chance.paretovariate(0.7)), 3_999)],
                "" if chance.random() < 0.01 else articles[min(int(chance.paretovariate(0.6)), 799)],
                str(chance.choice((1, 1, 1, 2, 10, -1))),
                "" if chance.random() < 0.01 else f"{cents / 100:.2f}",
                moment.strftime("%Y-%m-%d %H:%M:%S"),
                chance.choice(NOTES),
            ),
        )


def write(folder: Path, lines: int = 500_000, days: int = 20, seed: int = 5) -> None:
    """One file a day, each whole at once."""
    folder.mkdir(parents=True, exist_ok=True)
    by_day: dict[str, list[tuple[str, ...]]] = {}
    for moment, fields in rows(lines, days, seed):
        by_day.setdefault(moment.strftime("%Y-%m-%d"), []).append(fields)
    for day, found in by_day.items():
        unfinished = folder / f".{day}.csv"
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\r\n")
            writer.writerow(HEADER)
            writer.writerows(found)
        unfinished.rename(folder / f"orders-{day}.csv")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lines", type=int, default=500_000)
    asked = parser.parse_args()
    write(asked.folder, asked.lines)
