"""YAML as users mean it: every value with its place, no value changed silently, every error in plain words.

PyYAML only splits the text into nodes. What a plain scalar means is decided here, by the core rules of YAML
1.2: `no`, `on`, `12:30:00`, `0755` and `2026-01-01` are text. Duplicate keys are errors.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import yaml

from featureflow_cli.errors import Problem
from featureflow_cli.spec.places import Node, Path, Place, Scalar, YamlFile
from featureflow_cli.spec.variables import ALMOST_VARIABLE, VARIABLE, put_in
from featureflow_cli.spec.yaml_errors import place_at, stray_text, syntax_problem

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), math.inf),
    "-.inf": -math.inf,
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own attribute)


_FAST: Any = (
    type("_FastLoader", (yaml.CSafeLoader,), {"yaml_implicit_resolvers": {}})
    if yaml.__with_libyaml__
    else _Loader
)


def read(file: YamlFile) -> tuple[Node | None, list[Problem]]:
    """The file's tree (None where it is empty or broken) and everything that is wrong with it as YAML."""
    if not file.text.strip():
        return None, [Place(file, 1, 1).problem("the file is empty", "write something in it, or delete it")]
    try:
        documents = _compose(file.text)
    except yaml.MarkedYAMLError as err:
        return None, [syntax_problem(file, err)]
    except yaml.reader.ReaderError as err:
        before = file.text[: int(err.position)]
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        code = err.character if isinstance(err.character, int) else ord(str(err.character)[:1] or "\0")
        return None, [place.problem(f"character U+{code:04X} cannot stand in YAML", "remove it")]
    if len(documents) > 1:
        place = place_at(file, documents[1].start_mark)
        return None, [
            place.problem("a second YAML document starts here", "one file is one document: remove the `---`")
        ]
    if not documents or documents[0] is None:
        return None, []
    problems: list[Problem] = []
    tree = _Tree(file, problems).node(documents[0], None)
    return tree, problems


def core_scalar(text: str) -> Scalar:
    """What a plain scalar means: null, a bool, an int, a float that loses no digit; else the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    # `1.10` is also how people write versions, and long decimals do not fit a double: those stay text where
    # the text matters, because models that want text refuse a float and say "quote it".
    if _FLOAT.fullmatch(text) and not re.fullmatch(r"[-+]?0[0-9]+.*", text):
        number = float(text)
        if math.isfinite(number) and Decimal(repr(number)) == Decimal(text):
            return number
    return text


def interpolate(
    node: Node, environ: Mapping[str, str], late: Sequence[Path] = ()
) -> tuple[Node, list[Problem]]:
    """Put environment variables in: `${env:NAME}` and `${env:NAME:-default}`. The results are text.

    A missing one is a problem at its place. `late` are paths (a list's items count as the list itself) below
    which they stay as they are written, for whoever uses the value (`variables.resolve`).
    """
    if isinstance(node.content, Mapping):
        below = {
            key: interpolate(child, environ, [path[1:] for path in late if not path or path[0] == key])
            for key, child in node.content.items()
        }
        problems = [problem for _, found in below.values() for problem in found]
        return node.with_content({key: child for key, (child, _) in below.items()}), problems
    if isinstance(node.content, tuple):
        items = [interpolate(child, environ, late) for child in node.content]
        problems = [problem for _, found in items for problem in found]
        return node.with_content(tuple(child for child, _ in items)), problems
    if "${" not in node.text or not isinstance(node.content, str):
        return node, []
    if () in late:
        problems = _almost_variables(node)
        return replace(node, flawed=bool(problems)), problems
    return _interpolate_text(node, environ)


def awaits_variable(node: Node) -> bool:
    """Whether an environment variable has still to be put in, so that nothing can be said about the value."""
    return not node.variables and isinstance(node.content, str) and VARIABLE.search(node.text) is not None


def _interpolate_text(node: Node, environ: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    problems: list[Problem] = []

    def missing(match: re.Match[str]) -> None:
        problems.append(
            _place_of(node, match).problem(
                f"the environment variable {match[1]} is not set",
                f"set it, or give a default: ${{env:{match[1]}:-value}}",
            )
        )

    names = tuple(match[1] for match in VARIABLE.finditer(node.text))
    filled = put_in(node.text, environ, missing)
    problems += _almost_variables(node)
    filled_node = replace(node, content=filled, variables=names) if names else node
    return replace(filled_node, flawed=bool(problems)), problems


def _almost_variables(node: Node) -> list[Problem]:
    """What was meant as a variable and is not one."""
    rest = VARIABLE.sub(lambda found: " " * len(found[0]), node.text)
    return [
        _place_of(node, match).problem(
            f"'{match[0]}' is not an environment variable", "write ${env:NAME}, or ${env:NAME:-default}"
        )
        for match in ALMOST_VARIABLE.finditer(rest)
    ]


def _place_of(node: Node, match: re.Match[str]) -> Place:
    return replace(node.place_of(match.start()), width=len(match[0]))


def _compose(text: str) -> list[Any]:
    """Documents as PyYAML nodes; by libyaml, or by the pure loader for its better messages."""
    try:
        return list(yaml.compose_all(text, Loader=_FAST))
    except yaml.YAMLError:
        return list(yaml.compose_all(text, Loader=_Loader))


class _Tree:
    """Turns one document's PyYAML nodes into ours, collecting what is wrong on the way."""

    def __init__(self, file: YamlFile, problems: list[Problem]) -> None:
        self.file = file
        self.problems = problems
        self.open: set[int] = set()

    def node(self, found: Any, key: Place | None) -> Node:
        start, end = found.start_mark, found.end_mark
        width = end.column - start.column if start.line == end.line else 1
        place = place_at(self.file, start, max(1, width))
        if id(found) in self.open:
            self.problems.append(
                place.problem("this anchor contains itself", "remove the alias inside of it")
            )
            return Node(place, None, key, flawed=True)
        line = self.file.lines[start.line] if start.line < len(self.file.lines) else ""
        if line[start.column : start.column + 1] == "!":
            self.problems.append(
                place.problem(
                    "YAML tags (`!name`) mean nothing here", "quote the value if it starts with `!`"
                )
            )
        self.open.add(id(found))
        try:
            if isinstance(found, yaml.ScalarNode):
                return self._scalar(found, place, key)
            if isinstance(found, yaml.SequenceNode):
                return Node(place, tuple(self.node(item, None) for item in found.value), key)
            entries, flawed = self._mapping(found)
            return Node(place, entries, key, flawed=flawed)
        finally:
            self.open.discard(id(found))

    def _scalar(self, found: Any, place: Place, key: Place | None) -> Node:
        style = found.style or ""
        content = found.value if style else core_scalar(found.value)
        return Node(place, content, key, text=found.value, style=style)

    def _mapping(self, found: Any) -> tuple[Mapping[str, Node], bool]:
        """The entries, and whether the whole is not the mapping that was meant (`{window}`)."""
        entries: dict[str, Node] = {}
        flawed = False
        last = ""
        for key_node, value_node in found.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(self._odd_key(key_node))
                continue
            name = key_node.value
            key = place_at(
                self.file, key_node.start_mark, key_node.end_mark.column - key_node.start_mark.column
            )
            if found.flow_style and not self._has_colon(key_node):
                self.problems.append(stray_text(key, name, alone=len(found.value) == 1))
                if last in entries:  # the text before the comma is only a part of what was meant
                    entries[last] = replace(entries[last], flawed=True)
                else:
                    flawed = True
                continue
            if name == "<<" and not key_node.style:
                self.problems.append(key.problem("merge keys (`<<`) are not supported", "write the keys out"))
                flawed = True
                continue
            if name in entries:
                first = entries[name].key
                assert first is not None
                self.problems.append(
                    key.problem(
                        f"duplicate key '{name}'", f"it was given on line {first.line} already; keep one"
                    )
                )
                continue
            entries[name] = self.node(value_node, key)
            last = name
        return entries, flawed

    def _odd_key(self, key_node: Any) -> Problem:
        place = place_at(self.file, key_node.start_mark)
        if isinstance(key_node, yaml.MappingNode):
            return place.problem("a key cannot be a mapping", "quote text that starts with `{`")
        return place.problem("a key cannot be a list", "quote text that starts with `[`")

    def _has_colon(self, key_node: Any) -> bool:
        end = key_node.end_mark
        rest = "\n".join(
            (self.file.lines[end.line][end.column :], *self.file.lines[end.line + 1 : end.line + 2])
        )
        return rest.lstrip().startswith(":")


def merge(under: Node, over: Node, *, kind: str = "type") -> Node:
    """`over` laid on `under` key by key; a block naming another `type` starts afresh; lists are replaced."""
    if not isinstance(under.content, Mapping) or not isinstance(over.content, Mapping):
        return over
    here, there = under.content.get(kind), over.content.get(kind)
    if here is not None and there is not None and here.content != there.content:
        return over
    merged = {
        key: merge(node, over.content[key], kind=kind) if key in over.content else node
        for key, node in under.content.items()
    }
    return over.with_content(merged | {key: node for key, node in over.content.items() if key not in merged})


def concatenate(parts: Sequence[Node]) -> Node:
    """One list of several files' lists, in their order; it stands where the first one does."""
    items = tuple(item for part in parts if isinstance(part.content, tuple) for item in part.content)
    return replace(parts[0], content=items)
