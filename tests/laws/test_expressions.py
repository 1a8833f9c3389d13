"""Laws of expressions: DuckDB's SQL, arrays and the row evaluator answer alike, to the last bit (design.md 1.15)."""

import math
import random
import re
import struct
from collections.abc import Iterator
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featureflow_cli.compute.arrays import array, is_plain
from featureflow_cli.compute.rows import compile_row
from featureflow_cli.compute.sql_expressions import expression_sql
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.spec.expressions import Expr, ExpressionError, parse
from featureflow_cli.spec.operations import DATE_PARTS, DATE_UNITS, OPERATIONS
from featureflow_cli.spec.types import (
    BOOL,
    DATE,
    DOUBLE,
    INT64,
    STRING,
    TIMESTAMP,
    ColumnType,
    Value,
    arrow_type,
    decimal_type,
)

SCHEMA: dict[str, ColumnType] = {
    "i": INT64, "j": INT64, "x": DOUBLE, "y": DOUBLE, "s": STRING, "u": STRING, "b": BOOL, "c": BOOL,
    "t": TIMESTAMP, "r": TIMESTAMP, "d": DATE, "e": DATE,
    "p": decimal_type(9, 2), "q": decimal_type(18, 4), "w": decimal_type(38, 10), "z": decimal_type(38, 0),
    "f": decimal_type(38, 38), "odd name.with dot": INT64,
}  # fmt: skip
ROWS = 400

INTS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    -10,
    100,
    2**31,
    2**53,
    2**53 + 1,
    -(2**53) - 1,
    2**62,
    2**63 - 1,
    -(2**63),
    10**18,
]
DOUBLES = [
    0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.1, 2.675, 1e-7, 1e16, 1e22, 1e-324, 5e-324, 2.2e-308, 1.7e308, -1.7e308,
    9.007199254740993e15, 9.223372036854775e18, -9.223372036854776e18, 0.49999999999999994, 123456.789, 1e37, 1e38,
    math.nan, math.inf, -math.inf,
]  # fmt: skip
TEXTS = [
    "", "a", "A", "abc", "ABC", "ß", "İ", "Σας", "é", "e\u0301", "😀", "a😀b", "ᾳ", "ǆ", "a%b", "_", "%", "\\", "it's",
    " pad ", "\t", "a\0b", "line\nbreak", "b" * 1500, "a,b,,c",
    "12", "-5", "+7", "42.0", "42.5", "1e5", "nan", "inf", ".5", "5.", "-.5", ".", "1_000", " 1", "٣",
    "1e400", "1e-400",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "99999999999999999999", "0.005", "-0.0",
    "123456789012345678.12345678901234567890", "true", "FALSE", "t", "0.1",
    "1.7976931348623159e308", "9007199254740993",
    "2020-01-01", "2020-02-30", "2020-01-01T10:00:00Z", "2020-01-01 10:00", "1969-12-31 23:59:59.9999999+05:30",
    "2020-01-01T10:00:00.123456-0130", "2020-01-01 10:00:00 UTC", "2020-01-01T24:00:00", "2020-01-01T10:00:60",
    "0000-01-01", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2020-01-01T10:00:00+2", "2020-1-1",
    "2020-01-01T10:00:00+02", "2020-01-01T10:00:00.5z", "2020-01-01T10", "20200101",
]  # fmt: skip
MOMENTS = [
    0, 1, -1, 999_999, -62_135_596_800_000_000, 253_402_300_799_999_999,
    253_402_300_800_000_000, -62_135_596_800_000_001,
    1_582_934_400_123_456, -3_600_000_001, 1_600_000_000_000_000, 951_782_400_000_000, 1_767_225_599_999_999,
]  # fmt: skip
DAYS = [0, 1, -1, 18_321, -719_162, 2_932_896, 11_016, 20_454, -25_567]


def _value(random_: random.Random, column_type: ColumnType) -> Value:
    if random_.random() < 0.12:
        return None
    if column_type == INT64:
        return random_.choice(
            [random_.choice(INTS), random_.randint(-100, 100), random_.randint(-(2**63), 2**63 - 1)]
        )
    if column_type == DOUBLE:
        wild = struct.unpack("<d", random_.randbytes(8))[0]
        return random_.choice(
            [random_.choice(DOUBLES), random_.randint(-1000, 1000) / 4, random_.uniform(-1e6, 1e6), wild]
        )
    if column_type == STRING:
        return random_.choice(TEXTS)
    if column_type == BOOL:
        return random_.random() < 0.5
    if column_type == TIMESTAMP:
        return random_.choice([random_.choice(MOMENTS), random_.randint(-(10**16), 10**16)])
    if column_type == DATE:
        return random_.choice([random_.choice(DAYS), random_.randint(-100_000, 100_000)])
    most = 10**column_type.precision - 1
    unscaled = random_.choice(
        [0, 1, -1, 5, most, -most, random_.randint(-most, most), random_.randint(-1000, 1000)]
    )
    number = Decimal(unscaled).scaleb(-column_type.scale, context=_WIDE)
    return number if number else number.copy_abs()


_WIDE = Context(prec=60)


def _column(values: list[Value], column_type: ColumnType) -> pa.Array:
    if column_type == TIMESTAMP:
        return pa.array(values, pa.int64()).cast(arrow_type(column_type))
    if column_type == DATE:
        return pa.array(values, pa.int32()).cast(arrow_type(column_type))
    return pa.array(values, arrow_type(column_type))


def _rows(seed: int) -> dict[str, list[Value]]:
    random_ = random.Random(seed)
    return {name: [_value(random_, column_type) for _ in range(ROWS)] for name, column_type in SCHEMA.items()}


TABLES = [_rows(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        for number in range(len(TABLES)):
            engine.register(f"rows{number}", _table(number))
        yield engine


def _table(number: int) -> pa.Table:
    return pa.table({name: _column(values, SCHEMA[name]) for name, values in TABLES[number].items()})


# --- random expressions, as text, by the kind of answer

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


def _bits(value: Any, column_type: ColumnType) -> Any:
    """What two answers must share: a double's bits, a decimal's digits and scale."""
    if isinstance(value, float):
        return struct.pack(">d", value).hex(), value
    if isinstance(value, Decimal):
        return str(value.scaleb(column_type.scale, context=_WIDE)), value
    return type(value), value


def _answers(engine: Engine, number: int, exprs: list[Expr]) -> list[list[Any]]:
    columns = ", ".join(f"{expression_sql(expr)} AS c{at}" for at, expr in enumerate(exprs))
    table = engine.table(f"SELECT {columns} FROM rows{number}")
    for at, expr in enumerate(exprs):
        assert table.schema.field(f"c{at}").type == arrow_type(expr.type), expr.text
    return [_plain(table.column(f"c{at}"), expr.type) for at, expr in enumerate(exprs)]


def _plain(column: Any, column_type: ColumnType) -> list[Any]:
    if column_type == TIMESTAMP:
        column = column.cast(pa.int64())
    elif column_type == DATE:
        column = column.cast(pa.int32())
    return list(column.to_pylist())


def _arrays(number: int, expr: Expr) -> list[Any]:
    table = _table(number)
    found = array(expr, lambda name: table.column(name).combine_chunks(), ROWS)
    assert found.type == arrow_type(expr.type), expr.text
    return _plain(found, expr.type)


def _parsed(texts: list[str]) -> list[Expr]:
    """Those that check: a product may have too many decimals for any type, a quoted text be no moment."""
    found = []
    for text in texts:
        try:
            found.append(parse(text, SCHEMA))
        except ExpressionError as err:
            assert "are the most: cast one of them" in err.what or "is not a" in err.what, (text, err)
    return found


def _row(number: int, at: int) -> dict[str, Value]:
    return {name: values[at] for name, values in TABLES[number].items()}


def _differences(engine: Engine, number: int, exprs: list[Expr]) -> Iterator[str]:
    for expr, answers in zip(exprs, _answers(engine, number, exprs), strict=True):
        evaluate = compile_row(expr)
        by_arrays = _arrays(number, expr) if is_plain(expr) else answers
        for at, (answer, other) in enumerate(zip(answers, by_arrays, strict=True)):
            row = _row(number, at)
            expected = evaluate(row)
            if not _bits(answer, expr.type) == _bits(other, expr.type) == _bits(expected, expr.type):
                read = {name: row[name] for name in expr.columns}
                found = f"DuckDB {answer!r}, arrays {other!r}, rows {expected!r}"
                yield f"{expr.text}\n over {read}: {found}\n{expression_sql(expr)}"


@settings(
    max_examples=120, deadline=None, report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow]
)
@given(data=st.data(), number=st.integers(0, len(TABLES) - 1))
def test_duckdb_and_arrays_answer_what_the_row_evaluator_answers(
    engine: Engine, data: st.DataObject, number: int
):
    """Any expression over any row: the same value, the same bits, the type that the table says."""
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    exprs = _parsed([data.draw(expressions(kind, 3)) for kind in kinds])
    if exprs:
        assert list(_differences(engine, number, exprs))[:1] == []


def _every_template() -> Iterator[str]:
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


PLAIN = {"eq", "ne", "lt", "le", "gt", "ge", "in", "and", "or", "not", "is_null", "coalesce", "case"}
"""What arrays answer; what they are given of it is columns, constants and the same."""


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


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=conditions(3), number=st.integers(0, len(TABLES) - 1))
def test_arrays_answer_conditions_as_the_row_evaluator_does(text: str, number: int):
    """All but those that compare decimals which no decimal has room for."""
    expr = parse(text, SCHEMA)
    if not is_plain(expr):
        assert _operations(expr) & {"eq", "ne", "lt", "le", "gt", "ge", "in"}
        assert expr.columns & {"w", "z", "f", "q"}
        return
    evaluate = compile_row(expr)
    assert _arrays(number, expr) == [evaluate(_row(number, at)) for at in range(ROWS)]


def test_every_operation_of_the_table_agrees_on_columns(engine: Engine):
    """All of the language once, so that nothing rests on what hypothesis happens to draw."""
    found_before = ["1 * -(-9223372036854775808)", "date_part('hour', cast(null as timestamp))", "q * q"]
    exprs = _parsed([*_every_template(), *found_before])
    drawn = {op for expr in exprs for op in _operations(expr)}
    assert set(OPERATIONS) - drawn == {"ln", "exp", "power"}  # below: they are not the same to the last bit
    assert {op for expr in exprs if is_plain(expr) and expr.columns for op in _operations(expr)} >= PLAIN
    assert list(_differences(engine, 0, exprs))[:1] == []


def _operations(expr: Expr) -> set[str]:
    return {expr.op}.union(*(_operations(arg) for arg in expr.args))


@pytest.mark.parametrize("text", ["ln(x)", "exp(x)", "exp(p)", "power(x, y)", "power(p, 2)", "ln(abs(x))"])
def test_transcendental_functions_agree_within_1e_12(engine: Engine, text: str):
    """Libraries of mathematics do not round these correctly, and may differ in the last bit."""
    expr = parse(text, SCHEMA)
    for number in range(len(TABLES)):
        (answers,) = _answers(engine, number, [expr])
        for at, answer in enumerate(answers):
            expected = compile_row(expr)(_row(number, at))
            assert (answer is None) == (expected is None), _row(number, at)
            assert answer is None or math.isclose(answer, expected, rel_tol=1e-12, abs_tol=5e-324)


def test_every_character_has_the_same_case_in_both(engine: Engine):
    """One character becomes one character, in all of Unicode."""
    characters = [chr(point) for point in range(0x110000) if not 0xD800 <= point <= 0xDFFF]
    engine.register("characters", pa.table({"s": characters}))
    for text in ("lower(s)", "upper(s)"):
        expr = parse(text, {"s": STRING})
        evaluate = compile_row(expr)
        answers = engine.table(f"SELECT {expression_sql(expr)} AS c FROM characters").column("c").to_pylist()
        assert [
            (each, answer)
            for each, answer in zip(characters, answers, strict=True)
            if answer != evaluate({"s": each})
        ] == []


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_the_sessions_time_zone_changes_no_answer(zone: str):
    """Text, parts and truncation of moments are UTC's, wherever the session is."""
    texts = [
        "cast(t as string)", "cast(t as date)", "cast(d as timestamp)", "cast(s as timestamp)", "cast(s as date)",
        "date_trunc('day', t)", "date_trunc('week', d)", "date_part('hour', t)", "date_diff('day', t, r)", "t > d",
        "t < timestamp '2020-03-08 02:30'", "epoch_us(d)",
    ]  # fmt: skip
    with Engine(threads=1) as engine:
        engine.register("rows1", _table(1))
        engine.run(f"SET TimeZone = '{zone}'")
        for text in texts:
            expr = parse(text, SCHEMA)
            found = engine.table(f"SELECT {expression_sql(expr)} AS c FROM rows1").column("c")
            if expr.type == TIMESTAMP:
                found = found.cast(arrow_type(TIMESTAMP))  # the zone is the session's, the moment is not
            expected = [compile_row(expr)(_row(1, at)) for at in range(ROWS)]
            assert _plain(found, expr.type) == expected, text


def test_nesting_makes_sql_longer_in_proportion():
    """Text that repeated its argument would double with each level."""
    lengths = []
    for depth in (10, 20):
        text = "x"
        for _ in range(depth):
            text = f"(1e0 / {text})"
        lengths.append(len(expression_sql(parse(text, SCHEMA))))
    assert lengths[1] < 2.5 * lengths[0]
