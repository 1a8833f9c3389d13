"""Texts of expressions for their laws, over the columns of `expression_rows`: random ones, and each form once."""

import re
from collections.abc import Iterator

from hypothesis import strategies as st

from featureflow_cli.spec.operations import DATE_PARTS, DATE_UNITS

KINDS = ("int", "double", "decimal", "bool", "string", "moment", "date")
COLUMNS = {
    "int": ["i", "j", '"odd name.with dot"'], "double": ["x", "y"],
    "decimal": ["p", "q", "w", "z", "f"], "bool": ["b", "c"],
    "string": ["s", "u"], "moment": ["t", "r"], "date": ["d", "e"],
}  # fmt: skip
LITERALS = {
    "int": ["0", "1", "-1", "3", "10", "9223372036854775807", "-9223372036854775808", "cast(null as int64)"],
    "double": ["1e0", "-2.5e0", "1e308", "0e0", "cast(null as double)"],
    "decimal": ["0.5", "-1.25", "99999999999999999999", "0.00", "cast(null as decimal(12,3))", "1.0"],
    "bool": ["true", "false", "cast(null as bool)"],
    "string": [
        "''",
        "'a'",
        "'12.5'",
        "'%a_'",
        "'ßé😀'",
        "' x'",
        "'it''s'",
        "cast(null as string)",
        "'2020-01-01'",
    ],
    "moment": ["timestamp '2020-02-29 23:59:59.999999'", "timestamp '1969-07-20'", "cast(null as timestamp)"],
    "date": ["date '2000-02-29'", "date '0001-01-01'", "cast(null as date)"],
}
TYPE_NAMES = {
    "int": ["BIGINT", "INT64"], "double": ["DOUBLE"], "decimal": ["decimal(18,2)", "decimal(38,6)", "decimal(5,5)"],
    "bool": ["BOOL"], "string": ["STRING", "VARCHAR"], "moment": ["TIMESTAMP"], "date": ["DATE"],
}  # fmt: skip
CASTS = [
    ("bool", "int"), ("bool", "string"), ("int", "bool"), ("int", "double"), ("int", "decimal"), ("int", "string"),
    ("double", "int"), ("double", "decimal"), ("double", "string"), ("decimal", "int"), ("decimal", "double"),
    ("decimal", "decimal"), ("decimal", "string"), ("string", "bool"), ("string", "int"), ("string", "double"),
    ("string", "decimal"), ("string", "moment"), ("string", "date"), ("moment", "date"), ("moment", "string"),
    ("date", "moment"), ("date", "string"),
]  # fmt: skip
SMALL = "{0|1|2|3|-1|-2|-9|5|9223372036854775807|-9223372036854775808}"
EVERY = [
    "case when {bool} then {self} else {self} end",
    "case when {bool} then {self} when {bool} then null end",
    "case {number} when {number} then {self} else {self} end",
    "coalesce({self}, {self})",
    "nullif({self}, {self})",
    "{greatest|least}({self}, {self}, {self})",
]
TEMPLATES = {
    "bool": [
        "({number} {=|<>|<|<=|>|>=} {number})",
        "({string} {=|<>|<|<=|>|>=} {string})",
        "({moment} {=|<>|<|<=|>|>=} {moment|date})",
        "({date} {=|<>|<|<=|>|>=} {date})",
        "({bool} {=|<>} {bool})",
        "({number} {in|not in} ({number}, {number}))",
        "({number} {in|not in} ({number}, {number}, null))",
        "({string} {in|not in} ('a', {string}))",
        "({number} between {number} and {number})",
        "({moment} not between {moment} and {date})",
        "({any} is {null|not null})",
        "({bool} {and|or} {bool})",
        "(not {bool})",
        "({bool} is {true|not true|false})",
        "({string} {like|ilike|not like} {string})",
        "({string} like '{!%a_!!%|a_b|%!_%}' escape '!')",
        "{starts_with|ends_with|contains}({string}, {string})",
    ],
    "string": [
        "{lower|upper|trim|ltrim|rtrim}({string})",
        "concat({string}, {string})",
        "({string} || {string})",
        f"substr({{string}}, {SMALL}, {SMALL})",
        "substr({string}, {int}, {int})",
        f"substr({{string}}, {SMALL})",
        "replace({string}, {string}, {string})",
        f"split_part({{string}}, '{{,|ab}}', {SMALL})",
        "split_part({string}, 'a', {int})",
    ],
    "int": [
        "({int} {+|-|*|%} {int})",
        "{abs|round|floor|ceil|-}({int})",
        "length({string})",
        f"date_part('{{{'|'.join(DATE_PARTS)}}}', {{moment|date}})",
        "extract({year|dow|week|second} from {moment|date})",
        f"date_diff('{{{'|'.join(DATE_UNITS)}}}', {{moment|date}}, {{moment|date}})",
        "epoch_us({moment|date})",
    ],
    "double": [
        "({number} / {number})",
        "({double} {+|-|*|%} {number})",
        "({number} {+|-|*|%} {double})",
        "{abs|round|floor|ceil|sqrt|-}({double})",
        "sqrt({number})",
        "round({double}, {0|1|2|15})",
    ],
    "decimal": [
        "({decimal} {+|-|*|%} {decimal|int})",
        "({int} {+|-|*|%} {decimal})",
        "{abs|round|floor|ceil|-}({decimal})",
        "round({decimal}, {0|1|2|15})",
    ],
    "moment": [f"date_trunc('{{{'|'.join(DATE_UNITS)}}}', {{moment|date}})"],
    "date": ["cast({moment} as date)"],
}
for _given, _wanted in CASTS:
    TEMPLATES[_wanted].append(f"{{cast|try_cast}}({{{_given}}} as {{{'|'.join(TYPE_NAMES[_wanted])}}})")
GROUPS = {"number": ["int", "double", "decimal"], "any": list(KINDS)}
_HOLE = re.compile(r"\{([^{}]+)\}")


@st.composite
def expressions(draw: st.DrawFn, kind: str, depth: int) -> str:
    """Text of that kind: a template whose holes `{choice|choice}` are filled, kinds by expressions."""
    if depth == 0 or draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(COLUMNS[kind] * 2 + LITERALS[kind]))

    def fill(hole: re.Match[str]) -> str:
        chosen = draw(st.sampled_from(hole[1].split("|")))
        wanted = kind if chosen == "self" else draw(st.sampled_from(GROUPS.get(chosen, [chosen])))
        return draw(expressions(wanted, depth - 1)) if wanted in KINDS else chosen

    return _HOLE.sub(fill, draw(st.sampled_from(EVERY + TEMPLATES[kind] * 2)))


def every_template() -> Iterator[str]:
    """Each template as often as its longest hole has choices, filled from columns."""

    def filled(template: str, kind: str, turn: int) -> str:
        def fill(hole: re.Match[str]) -> str:
            choices = hole[1].split("|")
            chosen = kind if hole[1] == "self" else choices[turn % len(choices)]
            wanted = GROUPS.get(chosen, [chosen])[turn % len(GROUPS.get(chosen, [chosen]))]
            return COLUMNS[wanted][hole.start() % len(COLUMNS[wanted])] if wanted in KINDS else wanted

        return _HOLE.sub(fill, template)

    for kind in KINDS:
        for template in EVERY + TEMPLATES[kind]:
            turns = max(len(hole.split("|")) for hole in _HOLE.findall(template))
            yield from (filled(template, kind, turn) for turn in range(turns))


_LEAVES = [f"({{}} {sign} {{}})" for sign in ("=", "<>", "<", "<=", ">", ">=")]
_LEAVES += ["({} is null)", "({} in ({}, {}))", "({} not in ({}, {}, null))", "({} between {} and {})"]
_BRANCHES = [
    "({} and {})",
    "({} or {})",
    "(not {})",
    "case when {} then {} when {} then {} end",
    "coalesce({}, {})",
]


@st.composite
def conditions(draw: st.DrawFn, depth: int) -> str:
    """Of columns and constants alone."""
    if depth and draw(st.booleans()):
        shape = draw(st.sampled_from(_BRANCHES))
        return shape.format(*(draw(conditions(depth - 1)) for _ in range(shape.count("{}"))))
    shape, kind = draw(st.sampled_from(_LEAVES)), draw(st.sampled_from(KINDS))
    operands = st.sampled_from(COLUMNS[kind] * 2 + LITERALS[kind])
    return shape.format(*(draw(operands) for _ in range(shape.count("{}"))))
