"""Hunts for schedules that break a law.

python -m tests.simulation --seeds 10000            how many of them hold
python -m tests.simulation --seed 123 --seeds 1     one of them, its story shrunk
python -m tests.simulation --off cover              without a rule: what it is for
"""

import argparse
import time
from collections import Counter
from contextlib import nullcontext

from tests.simulation.bank import schedule_for
from tests.simulation.playing import play, shrunk, simulated
from tests.simulation.promises import Promises
from tests.simulation.rules import RULES, without


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--tries", type=int, default=3, help="failures until it ends")
    parser.add_argument("--off", choices=RULES, help="a rule to switch off")
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    failures = []
    started = time.process_time()
    played = 0
    with simulated(), without(args.off) if args.off else nullcontext(Promises()) as promises:
        for seed in range(args.seed, args.seed + args.seeds):
            played += 1
            failure = play(schedule_for(args.off, seed), promises, counts)
            if failure is not None:
                failures.append(failure)
                print(f"seed {seed}: {failure.message}", flush=True)
                if len(failures) == args.tries:
                    break
        elapsed = time.process_time() - started
        print(
            f"{played} schedules, {len(failures)} broken, {elapsed:.1f} s, {played / elapsed * 60:,.0f} a minute"
        )
        print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
        if failures:
            print(
                min((shrunk(failure) for failure in failures), key=lambda found: len(found.schedule.tokens))
            )
    return bool(failures)


if __name__ == "__main__":
    raise SystemExit(main())
