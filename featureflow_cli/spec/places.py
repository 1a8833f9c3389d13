"""Where things stand: YAML values that know their file, line and column.

A file is read into a tree of `Node`s; overlays and lists of several files are merged as trees, so every value
keeps its place until the very end, when `plain` makes Python of it and `Positions` answers for the places.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from featureflow_cli.errors import Problem

Scalar = str | int | float | bool | None
Path = tuple[str | int, ...]
"""Keys and list indexes from the root, such as `("feature_views", 0, "features", 1, "where")`."""

_EXCERPT_WIDTH = 110


@dataclass(frozen=True, eq=False)
class YamlFile:
    """A file's text; `name` is its path as the user knows it (relative to the repo, with `/`)."""

    name: str
    text: str
    lines: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", tuple(self.text.split("\n")))


@dataclass(frozen=True, eq=False)
class Place:
    """A stretch of one line: line and column count from 1, `width` is in characters."""

    file: YamlFile
    line: int
    column: int
    width: int = 1

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}:{self.column}"

    @property
    def order(self) -> tuple[str, int, int]:
        return (self.file.name, self.line, self.column)

    def problem(self, what: str, hint: str = "") -> "PlacedProblem":
        return PlacedProblem(at=str(self), what=what, hint=hint, excerpt=self.excerpt(), order=self.order)

    def excerpt(self) -> str:
        """The line with carets under the place; a long line is cut around it."""
        if self.line > len(self.file.lines):
            return ""
        line = self.file.lines[self.line - 1].rstrip("\r").replace("\t", " ")
        if not line.strip():
            return ""
        start, shown = self.column - 1, line
        if len(line) > _EXCERPT_WIDTH:
            cut = max(0, min(start - _EXCERPT_WIDTH // 3, len(line) - _EXCERPT_WIDTH))
            shown = line[cut : cut + _EXCERPT_WIDTH]
            shown = ("…" if cut else "") + shown + ("…" if cut + _EXCERPT_WIDTH < len(line) else "")
            start -= cut - (1 if cut else 0)
        carets = "^" * max(1, min(self.width, len(shown) - start))
        number = f"{self.line:>4}"
        return f"  {number} | {shown}\n  {' ' * len(number)} | {' ' * start}{carets}"


@dataclass(frozen=True)
class PlacedProblem(Problem):
    """A problem that sorts by file, line and column, not by the text of its place."""

    order: tuple[str, int, int] = ("", 0, 0)


@dataclass(frozen=True, eq=False)
class Node:
    """One YAML value. `place` is where the value stands, `key` where its key does (None in a list).

    `content` is a scalar by YAML 1.2's core rules, a tuple of nodes or a mapping of nodes. `text` is a
    scalar's text before those rules, `style` its quote, `|`, `>` or an empty string. `variables` names the
    environment variables that were put in: such a value is never shown. `flawed`: a problem was reported for
    it already, so what follows from it is not worth reporting.
    """

    place: Place
    content: "Scalar | tuple[Node, ...] | Mapping[str, Node]"
    key: Place | None = None
    text: str = ""
    style: str = ""
    variables: tuple[str, ...] = ()
    flawed: bool = False

    @property
    def has_flaw(self) -> bool:
        """Whether this value or one below it is flawed."""
        if isinstance(self.content, Mapping):
            return self.flawed or any(node.has_flaw for node in self.content.values())
        if isinstance(self.content, tuple):
            return self.flawed or any(node.has_flaw for node in self.content)
        return self.flawed

    def plain(self) -> Any:
        """As plain Python: dicts, lists and scalars."""
        if isinstance(self.content, Mapping):
            return {key: node.plain() for key, node in self.content.items()}
        if isinstance(self.content, tuple):
            return [node.plain() for node in self.content]
        return self.content

    def child(self, step: str | int) -> "Node | None":
        if isinstance(self.content, Mapping):
            return self.content.get(str(step))
        if isinstance(self.content, tuple) and isinstance(step, int) and step < len(self.content):
            return self.content[step]
        return None

    def with_content(self, content: "tuple[Node, ...] | Mapping[str, Node]") -> "Node":
        return replace(self, content=content)

    def place_of(self, offset: int) -> Place:
        """Where the character at `offset` of this scalar's text stands in the file."""
        if self.variables or not isinstance(self.content, str):
            return self.place
        return _aligned(self, offset)


@dataclass(frozen=True, eq=False)
class Positions:
    """Places of a repo's definitions by path; what stands in feature_store.yaml is below `"feature_store"`.

    Without a tree (definitions made in Python) the places are the paths themselves: `feature_views[0].where`.
    """

    root: Node | None = None

    def place(self, path: Path, *, key: bool = False) -> Place | None:
        """Place of the value (or of its key) at `path`, or of the nearest thing around it."""
        node, missed = self._nearest(path)
        if node is None:
            return None
        return node.key if key and not missed and node.key is not None else node.place

    def is_from_environment(self, path: Path) -> bool:
        """Whether an environment variable was put into the value at `path`; without a tree nobody knows: True."""
        node, _ = self._nearest(path)
        return node is None or bool(node.variables)

    def written(self, path: Path) -> str:
        """The scalar at `path` as the file has it, variables not put in; empty where there is none."""
        node, missed = self._nearest(path)
        return "" if node is None or missed else node.text

    def at(self, path: Path, *, key: bool = False) -> str:
        """`file:line:column` of `place`."""
        place = self.place(path, key=key)
        return dotted(path) if place is None else str(place)

    def problem(
        self, path: Path, what: str, hint: str = "", *, offset: int | None = None, key: bool = False
    ) -> Problem:
        """A problem at `path`; `offset` counts characters into the text of the scalar there."""
        node, missed = self._nearest(path)
        if node is None:
            return Problem(at=dotted(path), what=what, hint=hint)
        if node.variables and node.content:
            hidden = f"${{env:{node.variables[0]}}}"
            what, hint = what.replace(str(node.content), hidden), hint.replace(str(node.content), hidden)
            if offset is not None:  # what is wrong inside of the text would quote a part of it
                what, hint = f"the expression with {hidden} put in does not hold", ""
        if offset is not None and not missed:
            return node.place_of(offset).problem(what, hint)
        place = self.place(path, key=key)
        assert place is not None
        return place.problem(what, hint)

    def _nearest(self, path: Path) -> tuple[Node | None, bool]:
        node = self.root
        for step in path:
            below = node.child(step) if node is not None else None
            if below is None:
                return node, True
            node = below
        return node, False


def dotted(path: Path) -> str:
    """`("feature_views", 0, "where")` -> `feature_views[0].where`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _aligned(node: Node, offset: int) -> Place:
    """Walk the scalar's text and the file side by side, over quotes, escapes, folds and indentation."""
    file, line, column = node.place.file, node.place.line - 1, node.place.column - 1
    block = node.style in {"|", ">"}
    if block:
        line, column = line + 1, 0
    elif node.style:
        column += 1
    for index, wanted in enumerate(node.text[: offset + 1]):
        line, column = _seek(file.lines, line, column, wanted)
        if index < offset:
            column += 1
    return Place(file, line + 1, column + 1)


def _seek(lines: tuple[str, ...], line: int, column: int, wanted: str) -> tuple[int, int]:
    """Next place at or after (line, column) that holds `wanted`; a line's end stands for a blank."""
    start = line, column
    while line < len(lines):
        if column >= len(lines[line]):
            if wanted in " \n":
                return line, column
            line, column = line + 1, 0
        elif lines[line][column] == wanted:
            return line, column
        else:
            column += 1
    return start
