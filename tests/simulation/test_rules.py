"""Each rule of the protocol, switched off in the simulation, breaks a law: none of them is there for nothing.

Two of the model's rules cannot be switched off, for nothing in this architecture could break them (rules.IMPOSSIBLE).
"""

from pathlib import Path

import pytest

from tests.simulation.bank import SEEDS, schedule_for
from tests.simulation.laws import LAWS
from tests.simulation.playing import play, simulated
from tests.simulation.rules import IMPOSSIBLE, RULES, without

TRIES = 400
"""Where the seed that is known for a rule no longer shows it, so many others are tried."""


@pytest.mark.parametrize("rule", RULES)
def test_without_a_rule_a_law_is_broken(rule: str) -> None:
    """A law, and not the stream: a patch that no longer fits the code would bring that down in any schedule."""
    with simulated(), without(rule) as promises:
        seeds = [SEEDS[rule], *range(TRIES)]
        failure = next(filter(None, (play(schedule_for(rule, seed), promises) for seed in seeds)), None)
    assert failure is not None, f"no seed shows it: python -m tests.simulation --off {rule}"
    assert failure.law in LAWS, failure.message


@pytest.mark.parametrize("rule", RULES)
def test_with_the_rule_the_same_schedule_holds(rule: str) -> None:
    with simulated():
        failure = play(schedule_for(rule, SEEDS[rule]))
        assert failure is None, str(failure)


def test_every_rule_that_the_design_names_is_looked_at() -> None:
    design = (Path(__file__).parents[2] / "docs" / "design.md").read_text()
    named = {*RULES, *IMPOSSIBLE}
    assert all(f"[{rule}" in design or f"{rule}]" in design or f", {rule}," in design for rule in named)
