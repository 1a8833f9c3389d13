"""PyYAML's errors, and its surprises, in the words of somebody who writes features."""

from typing import Any

import yaml

from featureflow_cli.errors import Problem
from featureflow_cli.spec.places import Place, YamlFile


def place_at(file: YamlFile, mark: Any, width: int = 1) -> Place:
    return Place(file, mark.line + 1, mark.column + 1, width)


def stray_text(key: Place, name: str, *, alone: bool) -> Problem:
    """An entry of a flow mapping without a colon: nearly always text that needed quotes."""
    if alone:
        return key.problem(
            f"{{{name}}} without quotes is a YAML mapping",
            f'quote the whole text, such as "purchases_{{{name}}}"',
        )
    return key.problem(
        f"'{name}' has no value: inside {{ }} a comma ends the value before it",
        'quote text that holds a comma, such as "coalesce(a, b)" or "decimal(18,2)"',
    )


def syntax_problem(file: YamlFile, err: yaml.MarkedYAMLError) -> Problem:
    """What is wrong, and what to do; most often text that needed quotes."""
    mark: Any = err.problem_mark or err.context_mark
    what, context = err.problem or "", err.context or ""
    place = place_at(file, mark) if mark is not None else Place(file, 1, 1)
    line = file.lines[place.line - 1] if place.line <= len(file.lines) else ""
    character = line[place.column - 1 : place.column]
    if context == "while scanning an alias" or what.startswith("found undefined alias"):
        star = place_at(file, err.context_mark) if context else place
        return star.problem("a bare `*` is a YAML alias", 'quote it: "*"')
    if context == "while scanning an anchor":
        return place_at(file, err.context_mark).problem("a bare `&` is a YAML anchor", "quote the text")
    if "\t" in what or "'\\t'" in what or (character == "\t"):
        return place.problem("a tab cannot indent YAML", "use spaces")
    if "cannot start any token" in what:
        return place.problem(f"text cannot start with `{character}` unless it is quoted", "quote the value")
    if what.startswith("mapping values are not allowed"):
        return place.problem(
            "a `: ` starts a mapping, which cannot stand here",
            "quote text that holds `: `; or mend the indentation of this line",
        )
    return _structure(file, place, err)


def _structure(file: YamlFile, place: Place, err: yaml.MarkedYAMLError) -> Problem:
    what, context = err.problem or "", err.context or ""
    opened: Any = err.context_mark
    if context == "while parsing a flow mapping" and what.endswith("got '{'"):
        return place.problem(
            "`{` inside { } starts another mapping", 'quote the text, such as "purchases_{window}"'
        )
    if context == "while parsing a flow mapping" and _is_in_parentheses(file, place):
        return place.problem(
            "inside { } a comma ends the value before it",
            "quote text that holds a comma: where: \"kind in ('a', 'b')\"",
        )
    if context.startswith("while parsing a flow") and opened is not None:
        closing = "]" if "sequence" in context else "}"
        return place.problem(
            f"expected `,` or `{closing}` here",
            f"the bracket of line {opened.line + 1} is still open; close it, or quote the text",
        )
    if what.startswith("expected <block end>, but found '<scalar>'"):
        before = file.lines[place.line - 1][: place.column - 1].rstrip()
        if before.endswith(("'", '"')):
            return place.problem(
                "the quoted text ends before this",
                "quote the whole value in the other kind of quotes: where: \"'a' = x\"",
            )
        if before.endswith("}"):
            return place.problem(
                "a `{ }` ends before this", 'quote the whole text, such as "purchases_{window}"'
            )
        if before.endswith("]"):
            return place.problem("a `[ ]` ends before this", "quote the whole text")
    if what.startswith("expected <block end>") or "expected '<document start>'" in what:
        around = f" with the block that starts on line {opened.line + 1}" if opened is not None else ""
        return place.problem("this line does not fit the indentation around it", f"align it{around}")
    if context == "while scanning a quoted scalar" and opened is not None:
        start = place_at(file, opened)
        return start.problem("this quote is never closed", "close it on the same line")
    if context == "while scanning a simple key" and opened is not None:
        return place_at(file, opened).problem(
            "this line is not `key: value`", "a `: ` is missing, or quotes are"
        )
    detail = f"{context}: {what}" if context else what
    return place.problem(f"not YAML: {detail}", "")


def _is_in_parentheses(file: YamlFile, place: Place) -> bool:
    """Whether a `(` stands open before the place: then SQL was meant, of which YAML saw a part."""
    before = file.lines[place.line - 1][: place.column - 1] if place.line <= len(file.lines) else ""
    return before.count("(") > before.count(")")
