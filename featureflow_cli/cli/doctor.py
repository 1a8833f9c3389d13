"""`featureflow doctor`."""

from dataclasses import asdict
from typing import Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import show, show_json, style
from featureflow_cli.errors import CheckFailed

MARKS = {"ok": ("ok  ", "green"), "warning": ("note", "yellow"), "failed": ("FAIL", "red")}


def doctor(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check the definitions, the stores, the registry and this machine. Changes nothing.

    Exits with 5 where a check fails; notes are no failures.

    Example: featureflow doctor
    """
    from featureflow_cli.evaluate.checkup import look

    findings = look(invocation(ctx).project())
    failed = [finding for finding in findings if finding.health == "failed"]
    if as_json:
        show_json({"healthy": not failed, "findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            mark, colour = MARKS[finding.health]
            show(f"{style(mark, colour)}  {finding.check.ljust(width)}  {finding.what}")
            if finding.hint:
                show(f"      {' ' * width}  -> {finding.hint}")
    if failed:
        raise typer.Exit(CheckFailed.exit_code)
