"""Each rule of the protocol, switched off in the simulation, breaks a law: none of them is there for nothing.

Two of the model's rules cannot be switched off, for nothing in this architecture could break them (rules.IMPOSSIBLE).
"""

from pathlib import Path

import pytest

from tests.simulation.playing import play, simulated
from tests.simulation.rules import IMPOSSIBLE, RULES, SEEDS, schedule_for, without

TRIES = 400
"""Where the seed that is known for a rule no longer shows it, so many others are tried."""


@pytest.mark.parametrize("rule", RULES)
def test_without_a_rule_a_law_is_broken(rule: str) -> None:
    with simulated(), without(rule) as promises:
        seeds = [SEEDS[rule], *range(TRIES)]
        assert any(play(schedule_for(rule, seed), promises) for seed in seeds)


@pytest.mark.parametrize("rule", RULES)
def test_with_the_rule_the_same_schedule_holds(rule: str) -> None:
    with simulated():
        failure = play(schedule_for(rule, SEEDS[rule]))
        assert failure is None, str(failure)


def test_every_rule_that_the_design_names_is_looked_at() -> None:
    design = (Path(__file__).parents[2] / "docs" / "design.md").read_text()
    named = {*RULES, *IMPOSSIBLE}
    assert all(f"[{rule}" in design or f"{rule}]" in design or f", {rule}," in design for rule in named)
