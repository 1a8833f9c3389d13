"""Expressions as users write them: what checks and as what type, what each corner answers, where errors point."""

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute.rows import compile_row
from featureflow_cli.spec.expression_names import FUNCTIONS, PARTS
from featureflow_cli.spec.expressions import ExpressionError, parse
from featureflow_cli.spec.operations import DATE_UNITS
from featureflow_cli.spec.types import (
    BOOL,
    DATE,
    DOUBLE,
    INT64,
    STRING,
    TIMESTAMP,
    ColumnType,
    Value,
    decimal_type,
    parse_type,
)
from featureflow_cli.times import parse_timestamp

SCHEMA: dict[str, ColumnType] = {
    "i": INT64, "x": DOUBLE, "p": decimal_type(18, 2), "s": STRING, "b": BOOL, "timestamp": TIMESTAMP, "date": DATE,
    "count": INT64, "tags": parse_type("list<string>"), "as_of": TIMESTAMP, "views.spend.total": decimal_type(38, 2),
    "user_activity.total_spend_24h": decimal_type(38, 2), "w": decimal_type(38, 0), "tiny": decimal_type(38, 38),
}  # fmt: skip
NULLS: dict[str, Value] = dict.fromkeys(SCHEMA)


def answer(text: str, **columns: Value) -> Value:
    return compile_row(parse(text, SCHEMA))({**NULLS, **columns})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i + 1", "int64"),
        ("i / 2", "double"),
        ("i + 1.5", "decimal(21,1)"),
        ("p * 2", "decimal(19,2)"),
        ("p * i", "decimal(37,2)"),
        ("p + 0.125", "decimal(20,3)"),
        ("p % 3", "decimal(18,2)"),
        ("p + x", "double"),
        ("w * w", "decimal(38,0)"),
        ("w + tiny", "decimal(38,38)"),
        ("round(p)", "decimal(17,0)"),
        ("round(p, 1)", "decimal(18,1)"),
        ("floor(x)", "double"),
        ("coalesce(i, p, null)", "decimal(21,2)"),
        ("case when b then date else timestamp end", "timestamp"),
        ("nullif(i, 0.5)", "int64"),
        ("date_trunc('month', date)", "timestamp"),
        ("-9223372036854775808", "int64"),
        ("9223372036854775808", "decimal(19,0)"),
        ("0.05", "decimal(2,2)"),
        ("1e3", "double"),
        ("user_activity.total_spend_24h / nullif(views.spend.total, 0)", "double"),
        ("timestamp > '2026-01-01' and date = '2026-01-01'", "bool"),
        ("cast(null as decimal(5,2))", "decimal(5,2)"),
        ("count = 1", "bool"),
    ],
)
def test_types_are_those_of_the_table(text: str, expected: str):
    assert str(parse(text, SCHEMA).type) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7 / 2", 3.5),
        ("1 / 0", None),
        ("-7 % 3", -1),
        ("7 % 0", None),
        ("9223372036854775807 + 1", None),
        ("-(-9223372036854775808)", None),
        ("99999999999999999999999999999999999999 + 1", None),
        ("1e308 * 10", None),
        ("1 / (1e308 * 10)", None),  # an infinity within is null too: not 1 / inf = 0
        ("ln(0)", None),
        ("sqrt(-1)", None),
        ("round(2.5)", Decimal(3)),
        ("round(-2.5)", Decimal(-3)),
        ("round(2.675e0, 2)", 2.68),
        ("cast(2.5e0 as int64)", 3),
        ("cast(2.675e0 as decimal(10,2))", Decimal("2.68")),
        ("cast(1e10 as decimal(5,2))", None),
        ("cast(' 1' as int64)", None),
        ("cast('42.0' as int64)", 42),
        ("cast('42.5' as int64)", None),
        ("cast('nan' as double)", None),
        ("cast(0.1 as string)", "0.1"),
        ("cast(1e0 / 3 as string)", "0.3333333333333333"),
        ("9007199254740993 = 9007199254740992e0", True),  # beside a double, as doubles
        ("9007199254740993 = 9007199254740992.0", False),
        ("1 = 1.00", True),
        ("99999999999999999999999999999999999999 > cast(0.5 as decimal(38,38))", True),
        ("null and false", False),
        ("cast(null as bool) or true", True),
        ("1 in (2, null)", None),
        ("1 in (1, null)", True),
        ("1 not in (2, null)", None),
        ("(1 > cast(null as int64)) is true", False),
        ("greatest(1, null, 3)", 3),
        ("concat('a', null, 'b')", "ab"),
        ("'a' || cast(null as string)", None),
        ("substr('hello', 0, 3)", "he"),
        ("substr('hello', -3, 2)", "ll"),
        ("substr('hello', -9, 6)", "he"),
        ("substr('hello', 2, -1)", ""),
        ("substr('a😀b', 2, 1)", "😀"),
        ("length('e\u0301')", 2),
        ("upper('straße')", "STRAẞE"),
        ("trim('  a\t ')", "a\t"),
        ("replace('abc', '', 'x')", "abc"),
        ("split_part('a,b', ',', -1)", "b"),
        ("split_part('a,b', ',', 3)", ""),
        ("'a_c' like 'a!_c' escape '!'", True),
        ("'abc' like 'a!_c' escape '!'", False),
        ("'a\nb' like 'a%'", True),
        ("'ABC' ilike 'a_c'", True),
        ("dow(date '2026-03-01')", 0),
        ("date_part('week', date '2027-01-01')", 53),
        ("date_diff('day', timestamp '2026-01-01 23:59', timestamp '2026-01-02 00:01')", 1),
        ("date_diff('hour', timestamp '1969-12-31 23:59', timestamp '1969-12-31 22:01')", -1),
        ("date_trunc('week', timestamp '1970-01-01') = timestamp '1969-12-29'", True),
        ("cast(timestamp '1969-12-31 23:59:59.999999' as string)", "1969-12-31T23:59:59.999999Z"),
        ("cast('2026-01-01 10:00:00+02' as timestamp) = timestamp '2026-01-01T08:00:00Z'", True),
        ("try_cast('tomorrow' as timestamp)", None),
        ("case 2 when 1 then 'a' when 2 then 'b' end", "b"),
        ("if(null, 1, 2)", 2),
    ],
)
def test_corners_are_what_the_page_says(text: str, expected: Value):
    found = answer(text)
    assert (found, type(found)) == (expected, type(expected))


def test_nan_and_infinity_in_the_data_are_null():
    for number in (float("nan"), float("inf"), -float("inf")):
        assert answer("x", x=number) is None
        assert answer("coalesce(x, 1)", x=number) == 1.0
        assert answer("x is null", x=number) is True


def test_moments_are_microseconds_and_dates_are_days():
    row = {"timestamp": parse_timestamp("2026-05-17T12:34:56.789Z"), "date": 1}
    assert answer("epoch_us(timestamp)", **row) == parse_timestamp("2026-05-17T12:34:56.789Z")
    assert answer("extract(second from timestamp)", **row) == 56
    assert answer("cast(timestamp as date)", **row) == parse_timestamp("2026-05-17") // 86_400_000_000
    assert answer("cast(date as timestamp)", **row) == 86_400_000_000


@pytest.mark.parametrize(
    ("text", "at", "what", "hint"),
    [
        ("", 0, "empty", "docs/expressions.md"),
        ("i +", 2, "something is missing beside '+'", ""),
        ("i 1", 2, "'1' is not expected here", ""),
        ("s = 'abc", 4, "a quote is not closed", ""),
        ("i + cuont", 4, "unknown column 'cuont'", "did you mean 'count'?"),
        (
            "user_activity.total_spend_24 > 0",
            0,
            "unknown column",
            "did you mean 'user_activity.total_spend_24h'?",
        ),
        ("1 + lenght(s)", 4, "unknown function 'lenght'", "did you mean 'length'?"),
        ("i > 0 and sum(x) > 1", 10, "is an aggregation", "aggregate in the feature itself"),
        ("i // 2", 0, "i // 2 is not part of the language", "floor(a / b)"),
        ("timestamp > now()", 12, "unknown function 'now'", "as_of"),
        ("timestamp - interval '1 day' > date", 0, "INTERVAL", "epoch_us"),
        ("isnan(x)", 0, "unknown function", "`x is null`"),
        ("b or s = 1", 5, "string and int64 do not go together", ""),
        ("not i", 4, "needs bool, not int64", ""),
        ("abs(s)", 0, "needs numbers, not string", ""),
        ("concat(s, i)", 0, "needs string, not int64", ""),
        ("length(s, s)", 0, "2 arguments are too many", ""),
        ("floor(x, 2)", 0, "2 arguments are too many", ""),
        ("round(p, 1, true)", 0, "too many", ""),
        ("date_trunc('day', timestamp, 'UTC')", 0, "2 arguments are too many", ""),
        ("nullif(i)", 0, "1 arguments are too few", ""),
        ("i; b", 1, "more than one expression", ""),
        ("lower(distinct s)", 15, "not part of the language", ""),
        ("cast(date as int64)", 5, "cannot cast date to int64", ""),
        ("cast(s as json)", 5, "cannot cast to json", "decimal(p,s)"),
        ("cast(s as decimal(99,2))", 5, "precision goes from 1 to 38", ""),
        ("timestamp > 'soon'", 0, "'soon' is not a timestamp", ""),
        ("date '2026-02-30'", 5, "'2026-02-30' is not a date", ""),
        ("tiny * tiny", 0, "has 76 decimals", ""),
        ("round(p, i)", 9, "digits is a literal", ""),
        ("date_trunc('wek', timestamp)", 0, "knows no unit 'wek': did you mean 'week'?", ""),
        ("split_part(s, s, 1)", 14, "separator in quotes", ""),
        ("s like s escape '!'", 0, "pattern in quotes", ""),
        ("s like 'a!' escape '!'", 0, "does not end within an escape", ""),
        ("tags is null", 0, "is a list<string>", "latest"),
        ("null", 0, "null alone has no type", "cast(null as TYPE)"),
        ("i in (select 1)", 0, "IN takes a list", ""),
        ("1e999", 0, "does not fit a double", ""),
        ("+".join(["i"] * 300), 0, "nested over 100 deep", ""),
        ("(" * 500 + "i" + ")" * 500, 0, "nested too deeply", ""),
    ],
)
def test_errors_point_at_the_place_and_say_what_to_do(text: str, at: int, what: str, hint: str):
    with pytest.raises(ExpressionError) as raised:
        parse(text, SCHEMA)
    error = raised.value
    assert (error.offset, what in error.what, hint in error.hint) == (at, True, True), error


def test_every_function_and_unit_is_on_the_page_of_expressions():
    page = (Path(__file__).parents[3] / "docs/expressions.md").read_text()
    names = {*FUNCTIONS, *PARTS, *DATE_UNITS, "nullif", "round", "split_part", "date_diff", "datediff"}
    assert [name for name in sorted(names) if not re.search(rf"[` ]{name}\b", page)] == []


_WORDS = """
i x s b p timestamp date ( ) + - * / % , . ' " 'q' 1 2.5 case when then else end and or not in is null between
like escape cast as :: bigint round( substr( date_trunc( date_diff( extract( from trim( split_part( interval
select -- /* */ ; [ ] { } -> $1 ? @ || ^ a.b distinct over exists( any( if( ilike date_part( é 😀 \\ ` filter
""".split()  # noqa: SIM905  (rubbish reads best in lines)


@given(words=st.lists(st.sampled_from(_WORDS), max_size=8))
def test_rubbish_is_refused_at_a_place_within_the_text(words: list[str]):
    text = " ".join(words)
    try:
        parse(text, SCHEMA)
    except ExpressionError as err:
        assert 0 <= err.offset <= len(text)
        assert err.what


def test_a_long_chain_of_conditions_is_no_depth():
    text = " or ".join(f"i = {number}" for number in range(1000))
    assert answer(text, i=999) is True


def test_the_text_is_as_written_and_the_columns_are_those_read():
    expr = parse("  p * 2 > views.spend.total ", SCHEMA)
    assert expr.text == "p * 2 > views.spend.total"
    assert expr.columns == {"p", "views.spend.total"}


def test_a_row_without_a_column_that_is_read_is_an_error():
    with pytest.raises(KeyError):
        compile_row(parse("i + 1", SCHEMA))({})
