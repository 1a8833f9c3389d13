"""Protobuf messages as JSON: fields by their names in the schema, enums by name, no number loses a digit.

After the header come the indexes that lead to the message's type in its file, then its encoding. A field that knows
whether it was set is null where it was not (or its declared default); any other is the default of its type.
Timestamps become ISO 8601, durations their seconds and decimals (Confluent's, Google's) their digits, Google's
dates `2026-01-02`, bytes base64; wrappers and Struct what they hold.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context
from operator import attrgetter
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from featureflow_cli.sources.protobuf_files import file_of
from featureflow_cli.sources.schemas import HEADER, Reader, Written

Plain = Callable[[Any], Any]
"""A value of Protobuf as one that JSON has."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS = 1_000_000_000
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_MOST_DIGITS = 1_000
"""No column has more: a scale of two billion is no reason to write as many zeros."""


def reader(written: Written) -> Reader:
    """How messages of that schema are read; NoSchema where it is none, or was given as text."""
    file = file_of(written)
    plain_of: dict[str, Plain] = dict(_WELL_KNOWN)
    types: dict[bytes, Reader] = {}

    def as_json(message: bytes) -> bytes:
        start = _after_indexes(message)
        indexes = message[HEADER:start]
        if indexes not in types:
            types[indexes] = _reader_of(_type_at(file, _indexes(indexes)), plain_of)
        return types[indexes](message[start:])

    return as_json


def _reader_of(descriptor: Any, plain_of: dict[str, Plain]) -> Reader:
    """Of messages of that type alone, without what is in front."""
    parse, plain = GetMessageClass(descriptor).FromString, _message(descriptor, plain_of)
    requires = _requires(descriptor, set())

    def as_json(message: bytes) -> bytes:
        event = parse(message)
        if requires and not event.IsInitialized():
            what = f"a required field of {descriptor.full_name} is missing"
            raise ValueError(what)
        return orjson.dumps(plain(event))

    return as_json


def _requires(descriptor: Any, seen: set[str]) -> bool:
    """Whether a field of it or within it has to be there (proto2)."""
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    inner = [field.message_type for field in descriptor.fields if field.message_type is not None]
    return any(field.is_required for field in descriptor.fields) or any(
        _requires(each, seen) for each in inner
    )


def _after_indexes(message: bytes) -> int:
    """Where they end: a zero says `the first type`, else their count and they, all zigzag varints."""
    at = HEADER
    if message[at] == 0:
        return at + 1
    count, at = _varint(message, at)
    for _ in range(count):
        _, at = _varint(message, at)
    return at


def _indexes(encoded: bytes) -> list[int]:
    found, at = [], 0
    while at < len(encoded):
        number, at = _varint(encoded, at)
        found.append(number)
    return found[1:] or [0]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number that is none below zero, and where it ends."""
    encoded = shift = 0
    while shift < 35:
        byte = message[at]
        encoded |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128 and not encoded & 1:
            return encoded >> 1, at
    what = "what leads to its type is not understood"
    raise ValueError(what)


def _type_at(file: Any, indexes: list[int]) -> Any:
    found, inner = None, list(file.message_types_by_name.values())
    for index in indexes:
        if index >= len(inner):
            what = f"the schema has no type at {indexes}"
            raise ValueError(what)
        found = inner[index]
        inner = list(found.nested_types)
    return found


def _message(descriptor: Any, plain_of: dict[str, Plain]) -> Plain:
    name = descriptor.full_name

    def once_known(message: Any) -> Any:
        return plain_of[name](message)

    if name not in plain_of:
        plain_of[name] = once_known  # a type may contain itself
        plain_of[name] = _record(descriptor, plain_of)
    return plain_of[name]


def _record(descriptor: Any, plain_of: dict[str, Plain]) -> Plain:
    """Numbers and texts that are always there are read at once, the other fields one by one."""
    one_by_one: dict[str, Plain] = {}
    names: list[str] = []
    for field in descriptor.fields:
        plain = _value(field, plain_of)
        if plain is None and not field.is_repeated and not field.has_presence:
            names.append(field.name)
        else:
            one_by_one[field.name] = _getter(field, plain, plain_of)
    if len(names) == 1:
        names.append(names[0])  # attrgetter gives a tuple for two and more
    at_once = attrgetter(*names) if names else lambda _: ()

    def record(message: Any) -> Any:
        found = dict(zip(names, at_once(message), strict=True))
        for name, value_of in one_by_one.items():
            found[name] = value_of(message)
        return found

    return record


def _value(field: Any, plain_of: dict[str, Plain]) -> Plain | None:
    """How one value of it is made plain; None for one that is."""
    if field.message_type is not None:
        return _message(field.message_type, plain_of)
    if field.enum_type is not None:
        names = {value.number: value.name for value in reversed(field.enum_type.values)}
        return lambda number: names.get(number, number)
    return _base64 if field.type == FieldDescriptor.TYPE_BYTES else None


def _getter(field: Any, plain: Plain | None, plain_of: dict[str, Plain]) -> Plain:
    """From a message to what its JSON says of the field."""
    get, name = attrgetter(field.name), field.name
    if field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = _value(field.message_type.fields_by_name["value"], plain_of) or _same
        return lambda message: {_key(key): inner(value) for key, value in get(message).items()}
    if field.is_repeated:
        return lambda message: list(map(plain or _same, get(message)))
    if not field.has_presence:
        return lambda message: (plain or _same)(get(message))
    if field.message_type is None and field.has_default_value:
        return lambda message: (plain or _same)(get(message))
    if plain is None:
        return lambda message: get(message) if message.HasField(name) else None
    return lambda message: plain(get(message)) if message.HasField(name) else None


def _same(value: Any) -> Any:
    return value


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _key(key: Any) -> str:
    return orjson.dumps(key).decode() if isinstance(key, bool) else str(key)


def _timestamp(message: Any) -> datetime:
    if not 0 <= message.nanos < _NANOS:
        what = f"a Timestamp of {message.nanos} nanoseconds"
        raise ValueError(what)
    return _EPOCH + timedelta(0, message.seconds, message.nanos // 1_000)


def _duration(message: Any) -> str:
    total = message.seconds * _NANOS + message.nanos
    seconds, nanos = divmod(abs(total), _NANOS)
    return f"{'-' if total < 0 else ''}{seconds}{f'.{nanos:09d}' if nanos else ''}"


def _decimal(message: Any) -> str:
    if abs(message.scale) > _MOST_DIGITS or len(message.value) > _MOST_DIGITS:
        what = "a Decimal of too many digits"
        raise ValueError(what)
    unscaled = int.from_bytes(message.value, "big", signed=True)
    return format(_EXACT.create_decimal(unscaled).scaleb(-message.scale, _EXACT), "f")


def _date(message: Any) -> str:
    return f"{message.year:04d}-{message.month:02d}-{message.day:02d}"


def _struct(message: Any) -> dict[str, Any]:
    return {key: _any_value(value) for key, value in message.fields.items()}


def _list(message: Any) -> list[Any]:
    return [_any_value(value) for value in message.values]


def _any_value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    value = getattr(message, kind)
    return _struct(value) if kind == "struct_value" else _list(value) if kind == "list_value" else value


def _wrapped(message: Any) -> Any:
    return message.value


_WELL_KNOWN: Mapping[str, Plain] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list,
    "google.protobuf.Value": _any_value,
    **{
        f"google.protobuf.{name}Value": _wrapped
        for name in ("Bool", "Int32", "Int64", "UInt32", "UInt64", "Float", "Double", "String")
    },
    "google.protobuf.BytesValue": lambda message: _base64(message.value),
    "google.type.Date": _date,
    "google.type.Decimal": _wrapped,
    "confluent.type.Decimal": _decimal,
}
