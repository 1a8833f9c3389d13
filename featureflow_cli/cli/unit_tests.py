"""`featureflow test`."""

from typing import TYPE_CHECKING, Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show, show_json, style
from featureflow_cli.errors import CheckFailed, NotFound, did_you_mean

if TYPE_CHECKING:
    from featureflow_cli.evaluate.unit_tests import Outcome


def test(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Only these tests; all by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Run the YAML's unit tests through every evaluator: the reference, online state, and training.

    They run on the definitions as written, applied or not, and touch no store. Exits with 5 where one fails.

    Example: featureflow test
    """
    from featureflow_cli.evaluate.unit_tests import EVALUATORS, run

    project = invocation(ctx).project()
    written = project.written.definitions.unit_tests
    for name in names or ():
        known = [each.name for each in written]
        if name not in known:
            what = f"there is no unit test '{name}'"
            raise NotFound(what, hint=did_you_mean(name, known) or "run: featureflow test")
    chosen = [each for each in written if not names or each.name in names]
    with project.engine() as engine:
        outcomes = run(engine, project.written_repo, chosen)
    failed = [outcome for outcome in outcomes if outcome.mismatches]
    if as_json:
        show_json(
            {
                "passed": len(outcomes) - len(failed),
                "failed": len(failed),
                "evaluators": [name for name, _ in EVALUATORS],
                "tests": [
                    {
                        "name": outcome.name,
                        "passed": not outcome.mismatches,
                        "mismatches": [vars(mismatch) for mismatch in outcome.mismatches],
                    }
                    for outcome in outcomes
                ],
            }
        )
        if failed:
            raise typer.Exit(CheckFailed.exit_code)
        return
    for outcome in outcomes:
        show(f"{style('FAIL', 'red') if outcome.mismatches else style('ok  ', 'green')}  {outcome.name}")
        for (feature, expected, actual), by in _grouped(outcome).items():
            gave = "got" if len(by) == len(EVALUATORS) else f"{' and '.join(by)} gave"
            show(f"        {feature}: expected {expected}, {gave} {actual}")
    evaluators = ", ".join(name for name, _ in EVALUATORS)
    show(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed, each by {evaluators}")
    if not outcomes:
        say("No unit tests are written. Add some under `unit_tests:` in features/.")
    if failed:
        raise typer.Exit(CheckFailed.exit_code)


def _grouped(outcome: "Outcome") -> dict[tuple[str, str, str], list[str]]:
    """Which evaluators gave the same wrong answer."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for mismatch in outcome.mismatches:
        answer = (mismatch.feature, _text(mismatch.expected), _text(mismatch.actual))
        groups.setdefault(answer, []).append(mismatch.evaluator)
    return groups


def _text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return f"[{', '.join(_text(part) for part in value)}]"
    return str(value)
