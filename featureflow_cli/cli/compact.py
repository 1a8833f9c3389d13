"""`featureflow compact`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show, show_json
from featureflow_cli.errors import UsageError
from featureflow_cli.plan.costs import size_text
from featureflow_cli.times import DAY_US, HOUR_US, parse_duration

if TYPE_CHECKING:
    from featureflow_cli.evaluate.upkeep import Care


def compact(
    ctx: typer.Context,
    source: Annotated[
        str | None, typer.Option("--source", help="Only this source's log, or `dead-letters`.")
    ] = None,
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Also delete the files that nothing has listed for --retention.")
    ] = False,
    retention: Annotated[
        str, typer.Option("--retention", metavar="DURATION", help="At least 1d: queries may still read them.")
    ] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Join the offline store's many small files into few, day by day. No event changes.

    Safe beside running streams, which join files themselves where a day has a hundred small ones.

    Example: featureflow compact --vacuum --retention 7d
    """
    from featureflow_cli.evaluate.upkeep import tended

    hours = _hours(retention) if vacuum else None
    done = tended(invocation(ctx).project(), source, retention_hours=hours, dry_run=dry_run)
    if as_json:
        show_json({"dry_run": dry_run, "tables": [_flat(care) for care in done]})
        return
    for care in done:
        show(f"{care.table}: {_joined(care, dry_run)}{_deleted(care, retention, dry_run)}")
    if dry_run:
        say("Nothing was changed.")


def _hours(retention: str) -> int:
    try:
        retention_us = parse_duration(retention)
    except ValueError as error:
        raise UsageError(str(error), at="--retention") from error
    if retention_us < DAY_US:
        message = "files that were listed within the last day may still be read"
        raise UsageError(message, hint="say at least 1d", at="--retention")
    return -(-retention_us // HOUR_US)


def _joined(care: "Care", dry_run: bool) -> str:
    done = care.compacted
    if not done.before:
        return "no small files to join"
    days = "one day" if done.days == 1 else f"{done.days:,} days"
    sizes = size_text(done.bytes_before)
    if dry_run:
        return f"{done.before:,} small files of {days} ({sizes}) would become {done.after:,}"
    sizes = f"{sizes} -> {size_text(done.bytes_after)}"
    return f"{done.before:,} small files of {days} became {done.after:,} ({sizes})"


def _deleted(care: "Care", retention: str, dry_run: bool) -> str:
    if care.deleted is None:
        return ""
    verb = "would be deleted" if dry_run else "deleted"
    return f"; {care.deleted:,} files {verb} that nothing has listed for {retention}"


def _flat(care: "Care") -> dict[str, object]:
    done = asdict(care.compacted)
    return {"table": care.table, **done, "deleted": care.deleted}
