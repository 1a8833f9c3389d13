"""Commands by name, imported only when one of them is invoked or asked for its own help.

`featureflow --help` lists forty lines of text and imports nothing but typer; that keeps it under 150 ms.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from featureflow_cli.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Command:
    """`function` is `module:function`; `help` is the line shown in the list; `section` its heading there."""

    function: str
    help: str
    section: str = "Commands"


class CommandGroup(TyperGroup):
    """A group whose commands come from a table; names with a space ("registry history") make groups."""

    table: Mapping[str, Command] = {}
    elsewhere: Mapping[str, str] = {}
    """Verbs of other tools -> what to run here instead."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(dict.fromkeys(name.split(" ")[0] for name in self.table))

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        if cmd_name in self.table:
            return _command(cmd_name, self.table[cmd_name])
        inner = {
            name.removeprefix(f"{cmd_name} "): command
            for name, command in self.table.items()
            if name.startswith(f"{cmd_name} ")
        }
        if inner:
            return _subgroup(cmd_name, inner, self.table)
        return None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        if args[0].startswith("-") or self.get_command(ctx, args[0]) is not None:
            return super().resolve_command(ctx, args)
        raise self._unknown(ctx, args)

    def _unknown(self, ctx: typer.Context, args: list[str]) -> UsageError:
        asked = " ".join(args)
        for theirs, ours in self.elsewhere.items():
            if asked == theirs or asked.startswith(f"{theirs} "):
                return UsageError(f"there is no command '{theirs}' here", hint=f"run: {ours}")
        known = self.list_commands(ctx)
        within = "".join(f"{part} " for part in ctx.command_path.split(" ")[1:])
        hint = did_you_mean(args[0], known) or f"one of: {', '.join(known)}"
        return UsageError(f"there is no command '{within}{args[0]}'", hint=hint)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.table.items():
            sections.setdefault(command.section, []).append((name, command.help))
        width = max(len(name) for name in self.table)
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])


def _load(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    loaded: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return loaded


def _command(name: str, command: Command) -> Any:
    single = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    single.command(name.rpartition(" ")[2], short_help=command.help)(_load(command.function))
    return get_command(single)


def _subgroup(name: str, inner: Mapping[str, Command], table: Mapping[str, Command]) -> Any:
    listing = "\n".join(
        f"featureflow {full}: {command.help}" for full, command in table.items() if full in inner
    )
    group = type("Subgroup", (CommandGroup,), {"table": dict(inner), "__doc__": CommandGroup.__doc__})
    return group(name=name, no_args_is_help=True, rich_markup_mode=None, help=listing or None)
