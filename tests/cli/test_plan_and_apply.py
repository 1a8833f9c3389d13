"""`plan` and `apply`, as a user calls them: what they say, what they change, how they end."""

import json
import multiprocessing
import os
import re
import sys
from pathlib import Path

import pytest

from featureflow_cli.apply.execute import execute
from featureflow_cli.errors import Conflict
from featureflow_cli.evaluate.project import Project, open_project
from tests.cli.projects import Bank, golden


def project(bank: Bank, target: str | None = None) -> Project:
    return open_project(bank.root, target, {}, lambda: 1_767_225_600_000_000)


def apply(bank: Bank) -> None:
    done = bank("apply", "-y")
    assert done.code == 0, done.stderr


def test_the_first_plan_adds_everything_and_says_what_it_costs(bank: Bank):
    done = bank("plan")
    assert done.code == 0, done.stderr
    golden("plan_first.txt", done.stdout)
    assert done.stderr == "Run: featureflow apply\n"
    assert not (bank.root / "data").exists(), "planning changes nothing, not even by making a folder"


def test_json_says_the_same(bank: Bank):
    text, as_json = bank("plan").stdout, json.loads(bank("plan", "--json").stdout)
    assert as_json["summary"] == {"add": 9, "change": 0, "remove": 0}
    assert as_json["has_changes"] is True
    assert as_json["base_version"] == 0
    for change in as_json["changes"]:
        assert f"+ {change['kind']} {change['name']}" in text
        assert all(note in text for note in change["notes"])
        assert change["consequence"] in text
    assert [step["step"] for step in as_json["steps"]] == ["record", "open_log", *["build_state"] * 3]


def test_after_apply_there_is_nothing_to_do(bank: Bank):
    apply(bank)
    assert bank("plan").stdout == "No changes. What is written is applied.\n"
    assert bank("plan", "--detailed-exitcode").code == 0
    again = bank("apply", "-y")
    assert (again.code, again.stdout) == (0, "No changes. What is written is applied.\n")
    assert json.loads(bank("apply", "--json").stdout)["applied_version"] == 1
    assert len(json.loads(bank("registry", "history", "--json").stdout)) == 1


def test_a_changed_view_names_features_consequence_and_services(bank: Bank):
    apply(bank)
    bank.replace("sum: amount, window: 24h", "sum: amount, window: 48h")
    done = bank("plan")
    golden("plan_changed_view.txt", done.stdout)
    assert bank("plan", "--detailed-exitcode").code == 2


def test_cosmetic_changes_rebuild_nothing(bank: Bank):
    apply(bank)
    before = project(bank).registry.builds()
    bank.replace("description: What a card pays", "description: Spending\n    owner: cards@bank.example")
    bank.replace("[1h, 24h]}", "[1h, 24h], tags: {kind: count}}")
    golden("plan_cosmetic.txt", bank("plan").stdout)
    apply(bank)
    assert project(bank).registry.builds() == before
    assert project(bank).applied.version == 2


def test_the_order_of_features_is_recorded_without_a_rebuild(bank: Bank):
    apply(bank)
    line = "      - {name: spent_24h, sum: amount, window: 24h}\n"
    other = '      - {name: "payments_{window}", count: "*", windows: [1h, 24h]}\n'
    bank.replace(line + other, other + line)
    done = bank("plan")
    assert "~ features in another order" in done.stdout
    assert "nothing is rebuilt" in done.stdout
    apply(bank)
    assert [name for name, _ in project(bank).repo.views["card_spending"].outputs][-1] == "spent_24h"


def test_a_change_of_a_source_is_a_change_of_its_views(bank: Bank):
    apply(bank)
    bank.replace("dedupe_within: 1h", "dedupe_within: 2h")
    golden("plan_changed_source.txt", bank("plan").stdout)
    apply(bank)
    assert bank("plan", "--detailed-exitcode").code == 0


def test_a_setting_that_decides_about_events_is_applied_too(bank: Bank):
    apply(bank)
    store = bank.root / "feature_store.yaml"
    store.write_text(store.read_text() + "stream: {allowed_future: 5m}\n")
    assert "~ setting stream.allowed_future" in bank("plan").stdout
    assert project(bank).repo.sources["payments"].allowed_future_us == 60_000_000, "until it is applied"
    apply(bank)
    assert project(bank).repo.sources["payments"].allowed_future_us == 300_000_000


def test_what_stream_is_to_drop_is_no_change_pending(bank: Bank):
    apply(bank)
    registry = project(bank).registry
    first = next(build.number for build in registry.builds() if build.view == "card_spending")
    registry.serve(first)
    bank.replace("ttl: 7d", "ttl: 8d")
    apply(bank)
    second = next(
        build.number for build in registry.builds() if build.status == "building" and build.number > 3
    )
    registry.serve(second)
    assert {build.number: build.status for build in registry.builds()}[first] == "retired"
    assert bank("plan", "--detailed-exitcode").code == 0


def test_removed_objects_lose_their_state(bank: Bank):
    apply(bank)
    number = next(build.number for build in project(bank).registry.builds() if build.view == "shop_sales")
    project(bank).registry.serve(number)
    bank.edit(
        lambda text: text[: text.index("  - name: shop_sales")] + text[text.index("on_demand_features") :]
    )
    bank.replace('  - {name: sales, features: ["shop_sales:*"]}\n', "")
    golden("plan_removed.txt", bank("plan").stdout)
    apply(bank)
    assert {build.view for build in project(bank).registry.builds()} == {"card_spending", "card_history"}
    assert bank("plan", "--detailed-exitcode").code == 0


def test_a_column_that_the_log_holds_keeps_its_type(bank: Bank):
    apply(bank)
    bank.replace("shop_id: int64, amount", "shop_id: string, amount")
    bank.replace("{shop_id: int64}", "{shop_id: string}")
    done = bank("plan")
    assert done.code == 3
    assert "column 'shop_id' changes its type from int64 to string" in done.stderr
    assert "under a new name" in done.stderr


def test_targets_are_applied_one_by_one(bank: Bank):
    apply(bank)
    assert bank("plan", "-t", "prod", "--detailed-exitcode").code == 2, "global options may follow the verb"
    assert bank("apply", "-y", "--target", "prod").code == 0
    assert (bank.root / "data" / "prod.db").exists()


def test_without_a_terminal_apply_wants_a_yes(bank: Bank):
    done = bank("apply", stdin="y\n")
    assert done.code == 2
    assert "run: featureflow apply -y" in done.stderr
    assert project(bank).applied_or_none is None


def test_every_failure_of_detailed_exitcode_is_1(bank: Bank):
    bank.replace("sum: amount", "sun: amount")
    assert bank("plan").code == 3
    done = bank("plan", "--detailed-exitcode")
    assert done.code == 1
    assert "did you mean 'sum'?" in done.stderr


def test_history_says_who_applied_what(bank: Bank):
    apply(bank)
    bank.replace("ttl: 7d", "ttl: 8d")
    apply(bank)
    history = json.loads(bank("registry", "history", "--json").stdout)
    assert [(line["version"], line["summary"]) for line in history] == [(2, "1 changed"), (1, "9 added")]
    assert "@" in history[0]["applied_by"]
    assert bank("registry", "history").stdout.splitlines()[0].split() == [
        "VERSION",
        "APPLIED",
        "AT",
        "BY",
        "SUMMARY",
    ]


def test_drift_names_unapplied_edits_and_broken_ones(bank: Bank):
    apply(bank)
    assert project(bank).drift() is None
    bank.replace("ttl: 7d", "ttl: 8d")
    drift = project(bank).drift()
    assert drift is not None
    assert "~ view card_spending" in drift
    bank.replace("sum: amount", "sun: amount")
    broken = project(bank)
    assert re.search(
        r"have \d problems? \(featureflow validate\); running on applied version 1", str(broken.drift())
    )
    assert broken.repo.views["card_spending"].ttl_us == 7 * 86_400_000_000, (
        "the applied definitions still run"
    )


def test_a_plan_that_was_overtaken_is_refused_with_the_name_of_who_was_first(bank: Bank):
    late = project(bank)
    plan = late.plan()
    apply(bank)
    with pytest.raises(Conflict, match="applied version 1 at"):
        execute(late, plan, applied_by="bob", report=lambda _: None)
    assert len(late.registry.history()) == 1


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


@pytest.mark.parametrize("survived", [0, 1, 2, 3])
def test_an_apply_that_dies_between_steps_is_finished_by_the_next(bank: Bank, survived: int):
    """
    steps: record, open log | record, drop, drop …: dies after `survived` of them.
    """
    apply(bank)
    for build in project(bank).registry.builds():
        project(bank).registry.serve(build.number)
    bank.replace("dedupe_within: 1h", "dedupe_within: 2h")
    bank.edit(
        lambda text: text[: text.index("  - name: shop_sales")] + text[text.index("on_demand_features") :]
    )
    bank.replace('  - {name: sales, features: ["shop_sales:*"]}\n', "")
    done: list[str] = []

    def report(line: str) -> None:
        done.append(line)
        if len(done) == survived:
            raise Killed

    dying = project(bank)
    try:
        execute(dying, dying.plan(), applied_by="ann", report=report)
    except Killed:
        assert len(done) == survived
    apply(bank)
    after = project(bank)
    assert bank("plan", "--detailed-exitcode").code == 0
    assert after.applied.version == 2
    assert after.log("payments").snapshot().meaning == after.repo.sources["payments"].meaning
    assert {build.view for build in after.registry.builds()} == {"card_spending", "card_history"}
    assert {build.number for build in after.registry.builds() if build.status == "building"} == {4, 5}


def _apply_in_a_process(root: Path, number: int, start, results) -> None:  # type: ignore[no-untyped-def]
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    mine = open_project(root, None, {}, lambda: number)
    plan = mine.plan()
    start.wait()
    try:
        results.put(
            ("won", execute(mine, plan, applied_by=f"process {number}", report=lambda _: None).version)
        )
    except Conflict as err:
        results.put(("lost", str(err)))


def test_of_two_processes_that_apply_at_once_one_wins_and_one_is_told(bank: Bank):
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(2), spawn.Queue()
    processes = [
        spawn.Process(target=_apply_in_a_process, args=(bank.root, number, start, results))
        for number in (1, 2)
    ]
    for process in processes:
        process.start()
    outcomes = dict(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert outcomes["won"] == 1
    assert "applied version 1 at 1970-01-01T00:00:00.00000" in outcomes["lost"]
    assert len(project(bank).registry.history()) == 1
    assert bank("plan", "--detailed-exitcode").code == 0
