"""`featureflow ls` and `featureflow describe`."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import show, show_json, table


def ls(
    ctx: typer.Context,
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="entities, sources, views, on-demand or services.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List what is written, and whether it is applied.

    Example: featureflow ls views
    """
    from featureflow_cli.evaluate.catalogue import entries, kind_of

    found = entries(invocation(ctx).project(), kind_of(kind) if kind else None)
    if as_json:
        show_json(
            [
                {
                    "kind": entry.kind,
                    "name": entry.name,
                    "state": entry.state,
                    "owner": entry.owner,
                    "description": entry.description,
                }
                for entry in found
            ]
        )
        return
    rows = [(entry.kind, entry.name, entry.state, entry.owner or None, entry.description) for entry in found]
    show(table(["KIND", "NAME", "STATE", "OWNER", "DESCRIPTION"], rows))


def describe(
    ctx: typer.Context,
    reference: Annotated[
        str, typer.Argument(metavar="KIND/NAME", help="view/user_activity; the kind may be left out.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show one object: what it is made of, and what uses it.

    Example: featureflow describe view/user_activity
    """
    from featureflow_cli.evaluate.catalogue import description

    found = description(invocation(ctx).project(), reference)
    if as_json:
        show_json(found)
        return
    show(f"{found['kind']} {found['name']}")
    width = max(len(key) for key in found)
    for key, value in found.items():
        if key in {"kind", "name"}:
            continue
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            show(f"  {key}")
            lines = table([name.upper() for name in value[0]], [list(row.values()) for row in value])
            show("\n".join(f"    {line}" for line in lines.split("\n")))
        else:
            show(f"  {key.ljust(width)}  {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {part}" for key, part in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(str(part) for part in value) or "-"
    return str(value)
