"""Environment variables in values: `${env:NAME}` and `${env:NAME:-default}`.

Most are put in as the YAML is read. Those of connections stay as they are written, in the models and in the
registry, and are put in by whoever connects: so no secret is kept, planned or shown.
"""

import re
from collections.abc import Callable, Mapping

from featureflow_cli.errors import DefinitionError, Problem

VARIABLE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
ALMOST_VARIABLE = re.compile(r"\$\{(?:[eE][nN][vV]:[^}]*|[A-Za-z_][A-Za-z0-9_]*)\}?")


def put_in(text: str, environ: Mapping[str, str], missing: Callable[[re.Match[str]], None]) -> str:
    """The text with every variable's value in its place; `missing` hears of those that are not there.

    As in a shell, the default also stands for an empty variable.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        found = environ.get(name)
        if found is None and default is None:
            missing(match)
        return found or default or ""

    return VARIABLE.sub(value, text)


def resolve(text: str, environ: Mapping[str, str], at: str) -> str:
    """The text as its user needs it; DefinitionError naming `at` and every variable that is not set."""
    problems: list[Problem] = []

    def missing(match: re.Match[str]) -> None:
        what = f"the environment variable {match[1]} is not set"
        problems.append(Problem(at, what, f"set it, or give a default: ${{env:{match[1]}:-value}}"))

    filled = put_in(text, environ, missing)
    if problems:
        raise DefinitionError(problems)
    return filled
