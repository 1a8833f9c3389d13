"""`featureflow plan` and `featureflow apply`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import confirm, is_terminal, say, show, show_json, style
from featureflow_cli.errors import FeatureflowError, UsageError

if TYPE_CHECKING:
    from featureflow_cli.errors import StoreUnavailable
    from featureflow_cli.plan.steps import Plan

CHANGES_PENDING = 2
COLOURS = {"+": "green", "~": "yellow", "-": "red"}


def plan(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="The same content as JSON.")] = False,
    detailed_exitcode: Annotated[
        bool,
        typer.Option(
            "--detailed-exitcode", help="Exit with 2 where changes are pending, with 1 for any failure."
        ),
    ] = False,
) -> None:
    """Show what `apply` would change: definitions, state, and what that costs. Changes nothing.

    Example: featureflow plan --detailed-exitcode
    """
    from featureflow_cli.evaluate.checkup import redis_trouble

    try:
        project = invocation(ctx).project()
        made = project.plan()
    except FeatureflowError as err:
        if not detailed_exitcode:
            raise
        say(f"{style('Error:', 'red', sys.stderr)} {err}")
        raise typer.Exit(1) from err
    _render(made, as_json)
    _warn(redis_trouble(project))
    if not as_json and not made.is_empty:
        say("Run: featureflow apply")
    if detailed_exitcode and not made.is_empty:
        raise typer.Exit(CHANGES_PENDING)


def apply(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON; needs -y.")] = False,
) -> None:
    """Make the definitions as written the applied ones: those that stream, serve and build-dataset run on.

    Shows the plan and asks first. Where there is nobody to ask, -y is needed.

    Example: featureflow apply -y
    """
    from featureflow_cli.apply.author import author
    from featureflow_cli.apply.execute import execute
    from featureflow_cli.evaluate.checkup import redis_trouble
    from featureflow_cli.plan.explain import plan_json
    from featureflow_cli.plan.steps import DropState

    project = invocation(ctx).project()
    made = project.plan()
    if not as_json:
        _render(made, as_json=False)
    trouble = redis_trouble(project)
    if trouble is not None and any(isinstance(step, DropState) for step in made.steps):
        raise trouble
    _warn(trouble)
    if made.is_empty:
        if as_json:
            show_json({"applied_version": made.base_version, **plan_json(made)})
        return
    if not yes:
        _ask(as_json)
    applied = execute(project, made, applied_by=author(), report=lambda line: say(f"  done: {line}"))
    if as_json:
        show_json({"applied_version": applied.version, **plan_json(made)})
    else:
        show(style(f"Applied version {applied.version}.", "green"))


def _warn(trouble: "StoreUnavailable | None") -> None:
    """Of an online store that the plan can do without, but not what comes after it."""
    if trouble is not None:
        say(f"{style('warning:', 'yellow', sys.stderr)} the online store cannot be used: {trouble}")


def _ask(as_json: bool) -> None:
    if as_json or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        what = "apply needs a yes, and there is nobody to ask"
        raise UsageError(what, hint="look at `featureflow plan`, then run: featureflow apply -y")
    if not confirm("Apply these changes?"):
        say("Nothing was applied.")
        raise typer.Exit(1)


def _render(made: "Plan", as_json: bool) -> None:
    from featureflow_cli.plan.explain import plan_json, plan_lines

    if as_json:
        show_json(plan_json(made))
        return
    for line in plan_lines(made):
        sign = line.strip()[:2].strip()
        show(style(line, COLOURS[sign]) if sign in COLOURS else line)
