"""YAML as users mean it: values, places, variables, overlays."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.spec.places import Node, Positions, YamlFile
from featureflow_cli.spec.reading import core_scalar, interpolate, merge, read


def tree(text: str) -> Node:
    node, problems = read(YamlFile("x.yaml", text))
    assert problems == []
    assert node is not None
    return node


@pytest.mark.parametrize(
    "text",
    [
        "no", "yes", "on", "off", "y", "N", "12:30:00", "1:30", "0755", "007", "-01", "1_000", "2026-01-01",
        "2026-01-01T10:00:00Z", "2026-01-01 10:00:00", "0b11", "+", ".", "1e", "e1", "nan", "inf", "NO",
        "123456789012345678901.25", "0.1234567890123456789", "1e999", "<<", "=", "tRUE",
    ],
)  # fmt: skip
def test_what_yaml_1_1_would_change_stays_text(text: str) -> None:
    assert core_scalar(text) == text
    assert tree(f"a: {text}\n").plain() == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("true", True), ("False", False), ("0", 0), ("-7", -7),
        ("+7", 7), ("0o17", 15), ("0xfF", 255), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("-0.0", -0.0),
        (".inf", math.inf), ("-.inf", -math.inf), ("9223372036854775808", 2**63),
    ],
)  # fmt: skip
def test_core_rules(text: str, value: object) -> None:
    assert core_scalar(text) == value
    assert type(core_scalar(text)) is type(value)


def test_quoted_text_is_text() -> None:
    assert tree("a: 'true'\nb: \"1\"\nc: |\n  2\n").plain() == {"a": "true", "b": "1", "c": "2\n"}


def test_keys_are_text() -> None:
    assert tree("on: 1\n2: x\nnull: y\n").plain() == {"on": 1, "2": "x", "null": "y"}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_read_as_it_was_written(number: float) -> None:
    assert core_scalar(repr(number)) == number


def test_aliases_repeat_a_value() -> None:
    assert tree("a: &w [1h, 24h]\nb: *w\n").plain() == {"a": ["1h", "24h"], "b": ["1h", "24h"]}


def test_every_key_and_value_knows_its_place() -> None:
    positions = Positions(tree("a:\n  - b: 1\n    c: {d: x, e: [y, z]}\n"))
    assert positions.at(("a", 0, "b")) == "x.yaml:2:8"
    assert positions.at(("a", 0, "b"), key=True) == "x.yaml:2:5"
    assert positions.at(("a", 0, "c", "e", 1)) == "x.yaml:3:22"
    assert positions.at(("a", 0, "c", "e"), key=True) == "x.yaml:3:15"


def test_what_was_not_written_is_placed_at_what_is_around_it() -> None:
    positions = Positions(tree("a:\n  - b: 1\n"))
    assert positions.at(("a", 0, "missing", "deeper")) == "x.yaml:2:5"
    assert positions.at(("zzz",)) == "x.yaml:1:1"


def test_definitions_made_in_python_are_placed_by_their_path() -> None:
    assert (
        Positions().at(("feature_views", 0, "features", 1, "where")) == "feature_views[0].features[1].where"
    )


TEXTS = st.text(st.sampled_from("ab'\"\\ ():*,é%\t"), min_size=1, max_size=40).filter(
    lambda text: text.strip()
)


@given(TEXTS, st.sampled_from(["'", '"', "|", ">"]), st.data())
def test_an_offset_leads_to_its_very_character(text: str, style: str, data: st.DataObject) -> None:
    """Over quotes, escapes, folds and indentation."""
    written = yaml.dump({"top": [{"where": text}]}, default_style=style, allow_unicode=True, width=20)
    file = YamlFile("x.yaml", written)
    node, problems = read(file)
    assert node is not None
    assert problems == []
    scalar = Positions(node)
    held = node.child("top").child(0).child("where")  # type: ignore[union-attr]
    assert held is not None
    assert held.content == text
    solid = [index for index, character in enumerate(text) if character.isalnum()]
    if not solid:
        return
    offset = data.draw(st.sampled_from(solid))
    place = held.place_of(offset)
    assert file.lines[place.line - 1][place.column - 1] == text[offset]
    # And it is the right one of several alike: as many of them stand before it in the file as in the text.
    start = scalar.place(("top", 0, "where"))
    assert start is not None
    before = "\n".join(file.lines)[
        : sum(len(line) + 1 for line in file.lines[: place.line - 1]) + place.column - 1
    ]
    value = before.split("where", 1)[1]
    assert value.count(text[offset]) == text[:offset].count(text[offset])


def test_an_excerpt_of_a_long_line_shows_what_is_meant() -> None:
    node = tree("a: {" + ", ".join(f"key{n}: value{n}" for n in range(60)) + "}\n")
    excerpt = Positions(node).problem(("a", "key30"), "odd").excerpt
    line, carets = excerpt.split("\n")
    start = carets.index("^")
    assert line[start : carets.rindex("^") + 1] == "value30"
    assert len(line) < 130


def test_variables() -> None:
    node = tree('a: "${env:ONE}/${env:TWO:-two}/${env:EMPTY:-}"\nb: ${env:NUMBER}\nc: [x]\n')
    filled, problems = interpolate(node, {"ONE": "one", "EMPTY": "", "NUMBER": "5"})
    assert problems == []
    assert filled.plain() == {"a": "one/two/", "b": "5", "c": ["x"]}


def test_an_empty_variable_is_set_and_the_default_stands_for_it() -> None:
    filled, problems = interpolate(tree('a: "${env:X}"\nb: "${env:X:-d}"\n'), {"X": ""})
    assert (filled.plain(), problems) == ({"a": "", "b": "d"}, [])


def test_what_a_variable_holds_is_not_read_again() -> None:
    filled, problems = interpolate(tree('a: "${env:X}"\n'), {"X": "${env:Y}: {b}"})
    assert (filled.plain(), problems) == ({"a": "${env:Y}: {b}"}, [])


@pytest.mark.parametrize("text", ["${env:}", "${env:1}", "${ENV:X}", "${X}", "${env:X", "${env:X-d}"])
def test_a_misspelt_variable_is_told(text: str) -> None:
    _, problems = interpolate(tree(f"a: 'x{text}'\n"), {"X": "x"})
    assert [(problem.at, problem.what) for problem in problems] == [
        ("x.yaml:1:6", f"'{text}' is not an environment variable")
    ]


def test_overlays_merge_key_by_key() -> None:
    under = tree("a: {b: 1, c: 2}\nd: [1, 2]\n")
    over = tree("a: {c: 3, e: 4}\nd: [5]\n")
    assert merge(under, over).plain() == {"a": {"b": 1, "c": 3, "e": 4}, "d": [5]}


def test_a_block_of_another_type_starts_afresh() -> None:
    under = tree("a: {type: sqlite, path: x}\n")
    assert merge(under, tree("a: {type: redis, url: y}\n")).plain() == {"a": {"type": "redis", "url": "y"}}
    assert merge(under, tree("a: {type: sqlite, z: y}\n")).plain() == {
        "a": {"type": "sqlite", "path": "x", "z": "y"}
    }


def test_characters_that_yaml_forbids_are_placed() -> None:
    _, problems = read(YamlFile("x.yaml", "a: 1\nb: \x07\n"))
    assert [(problem.at, problem.what) for problem in problems] == [
        ("x.yaml:2:4", "character U+0007 cannot stand in YAML")
    ]
