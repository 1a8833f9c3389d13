"""The `featureflow` command: global options, the table of commands, and what an error looks like.

To add a command:

1. Write `featureflow_cli/cli/VERB.py` with one function, typed as typer likes it. Its first parameter is the
   context; `invocation(ctx)` gives what the global options said. Its docstring is its help and ends with an
   example. It parses, calls the verb's package, and renders with `cli/output.py`; it never catches a
   FeatureflowError, never calls `sys.exit` (raise `typer.Exit(code)`), and imports anything heavy inside.

       def stream(
           ctx: typer.Context,
           once: Annotated[bool, typer.Option("--once", help="Drain what is there, then exit.")] = False,
       ) -> None:
           \"\"\"Apply new events to both stores.

           Example: featureflow stream --once
           \"\"\"
           from featureflow_cli.stream.worker import run

           project = invocation(ctx).project()
           report = run(project, once=once)
           show(report.line)

2. Add its line to COMMANDS below: name -> `module:function`, which is imported only when that command is
   invoked or asked for its own help. A name with a space ("dead-letters replay") makes a group.

Every error of ours ends here: `what`, `at` and `hint` on stderr and its exit code; no traceback, unless
FEATUREFLOW_DEBUG=1. Exit codes: design.md section 9.
"""

import errno
import os
import sys
from typing import Annotated, Any

import typer

from featureflow_cli.cli.commands import Command, CommandGroup
from featureflow_cli.cli.invocation import Invocation
from featureflow_cli.cli.output import say, style
from featureflow_cli.errors import FeatureflowError

DEFINE, RUN, LOOK = "Define", "Run", "Look"
HERE = "featureflow_cli.cli"
COMMANDS = {
    "init": Command(f"{HERE}.init:init", "Start a project from a template.", DEFINE),
    "validate": Command(
        f"{HERE}.validate:validate", "Check the definitions; report every problem at once.", DEFINE
    ),
    "test": Command(
        f"{HERE}.unit_tests:test", "Run the definitions' unit tests through every evaluator.", DEFINE
    ),
    "plan": Command(f"{HERE}.plan:plan", "Show what `apply` would change, and what that costs.", DEFINE),
    "apply": Command(f"{HERE}.plan:apply", "Make the definitions as written the applied ones.", DEFINE),
    "schema": Command(
        f"{HERE}.validate:schema", "Print the JSON Schema of the YAML files, for editors.", DEFINE
    ),
    "generate": Command(f"{HERE}.generate:generate", "Write synthetic shop events.", RUN),
    "stream": Command(f"{HERE}.stream:stream", "Apply new events to the online and offline stores.", RUN),
    "build-dataset": Command(
        f"{HERE}.build_dataset:build_dataset", "Build a point-in-time training set.", RUN
    ),
    "serve": Command(f"{HERE}.serve:serve", "Serve feature vectors over HTTP.", RUN),
    "get": Command(f"{HERE}.get:get", "Read one feature vector, now or at a past moment.", RUN),
    "check-skew": Command(f"{HERE}.check_skew:check_skew", "Compare online values with offline ones.", RUN),
    "compact": Command(f"{HERE}.compact:compact", "Join the offline store's small files.", RUN),
    "sweep": Command(f"{HERE}.sweep:sweep", "Drop online states that no registry knows.", RUN),
    "ls": Command(f"{HERE}.listing:ls", "List entities, sources, views, on-demand features, services.", LOOK),
    "describe": Command(f"{HERE}.listing:describe", "Show one object and what uses it.", LOOK),
    "status": Command(f"{HERE}.status:status", "Show what is applied, and how far every view has got.", LOOK),
    "registry history": Command(f"{HERE}.registry:history", "Who applied what, and when.", LOOK),
    "dead-letters list": Command(
        f"{HERE}.dead_letters:list_letters", "Events that were refused, and why.", LOOK
    ),
    "dead-letters replay": Command(f"{HERE}.dead_letters:replay", "Give refused events another try.", LOOK),
    "doctor": Command(f"{HERE}.doctor:doctor", "Check the stores, the registry and this machine.", LOOK),
}
ELSEWHERE = {
    "materialize": "featureflow stream --once   (state is built from events, not by dates)",
    "materialize-incremental": "featureflow stream --once",
    "registry-dump": "featureflow ls --json",
    "feature-views list": "featureflow ls views",
    "feature-views describe": "featureflow describe view/NAME",
    "feature-views": "featureflow ls views",
    "feature-services list": "featureflow ls services",
    "feature-services": "featureflow ls services",
    "on-demand-feature-views list": "featureflow ls on-demand",
    "on-demand-feature-views": "featureflow ls on-demand",
    "stream-feature-views": "featureflow ls views",
    "entities list": "featureflow ls entities",
    "entities": "featureflow ls entities",
    "data-sources list": "featureflow ls sources",
    "data-sources": "featureflow ls sources",
    "features list": "featureflow ls views",
    "features": "featureflow ls views",
    "projects": "featureflow status",
    "configuration": "featureflow status",
    "get-online-features": "featureflow get --service NAME --entity KEY=VALUE",
    "get-historical-features": "featureflow build-dataset --labels FILE --service NAME --output FILE",
    "teardown": "featureflow apply   (after removing the definitions: it drops their state)",
    "ui": "featureflow serve   (and open /docs)",
    "lint": "featureflow validate",
    "debug": "featureflow doctor",
    "run": "featureflow stream --once",
    "build": "featureflow apply && featureflow stream --once",
    "compile": "featureflow validate",
    "parse": "featureflow validate",
    "show": "featureflow get --service NAME --entity KEY=VALUE",
    "list": "featureflow ls",
    "docs": "featureflow describe KIND/NAME",
    "deps": "pip install …   (there are no packages to fetch)",
    "seed": "featureflow generate",
    "diff": "featureflow plan",
    "destroy": "featureflow apply   (after removing the definitions: it drops their state)",
}
UNUSABLE_DISK = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT}
GLOBAL_OPTIONS = ("-c", "--chdir", "-t", "--target")


class RootGroup(CommandGroup):
    """The top group: global options may also follow the verb, and errors end here."""

    table = COMMANDS
    elsewhere = ELSEWHERE

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        return super().parse_args(ctx, globals_first(args))

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **{**options, "prog_name": "featureflow"})
        except FeatureflowError as err:
            _traceback_if_asked()
            say(f"{style('Error:', 'red', sys.stderr)} {err}")
            sys.exit(err.exit_code)
        except OSError as err:
            if err.errno not in UNUSABLE_DISK:
                _report_bug(err)
            _traceback_if_asked()
            where = err.filename or "a file of this project"
            say(f"{style('Error:', 'red', sys.stderr)} {err.strerror}: {where}")
            sys.exit(4)
        except Exception as err:  # the one place where an unexpected error is allowed to end
            _report_bug(err)


def globals_first(args: list[str]) -> list[str]:
    """The arguments with `-c`, `-t` and their values moved to the front: dbt's users write them last."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in GLOBAL_OPTIONS:
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        elif word.startswith(("--chdir=", "--target=")):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def _traceback_if_asked() -> None:
    if os.environ.get("FEATUREFLOW_DEBUG", "") not in {"", "0"}:
        import traceback

        say(traceback.format_exc())


def _report_bug(err: Exception) -> None:
    _traceback_if_asked()
    say(f"{style('Error:', 'red', sys.stderr)} this is a bug in featureflow: {type(err).__name__}: {err}")
    say("  hint: set FEATUREFLOW_DEBUG=1 to see the traceback; please report it")
    sys.exit(1)


app = typer.Typer(
    cls=RootGroup,
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"featureflow {version('featureflow')}")
        except PackageNotFoundError:  # run from a checkout that was never installed
            typer.echo("featureflow (not installed)")
        raise typer.Exit


@app.callback()
def _globals(
    ctx: typer.Context,
    chdir: Annotated[
        str, typer.Option("-c", "--chdir", metavar="DIR", help="Where feature_store.yaml is.")
    ] = ".",
    target: Annotated[
        str | None,
        typer.Option(
            "-t", "--target", metavar="NAME", envvar="FEATUREFLOW_TARGET", help="Which target to work on."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A declarative feature store: one definition, exact in stream, training and serving.

    Example: featureflow -c example_repo plan
    """
    ctx.obj = Invocation(directory=chdir, target=target or None, environ=os.environ)


def main() -> None:
    """The console script."""
    app()
