"""Messages whose schemas a registry keeps become JSON ones: from there on columns, letters and replays are JSON's.

A message names the schema that wrote it, by its id; `avro_messages` and `protobuf_messages` read the rest.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from math import inf
from typing import Protocol

import numpy as np

from featureflow_cli.errors import StillAnswering, UsageError
from featureflow_cli.sources import letters
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.letters import NO_VALUE, Letter, Reason, shown
from featureflow_cli.sources.schemas import HEADER, MAGIC, NoSchema, Reader, Written
from featureflow_cli.spec.models import KafkaStream


class Registry(Protocol):
    """Where schemas are (schema_registry.SchemaRegistry)."""

    def written(self, number: int, kind: str) -> Written: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Form:
    """What messages are written in."""

    name: str
    kind: str  # as the registry calls its schemas
    library: str
    reader: Callable[[Written], Reader]  # raises NoSchema


def _avro(written: Written) -> Reader:
    from featureflow_cli.sources import avro_messages

    return avro_messages.reader(written)


def _protobuf(written: Written) -> Reader:
    from featureflow_cli.sources import protobuf_messages

    return protobuf_messages.reader(written)


FORMS = {
    "avro": Form("Avro", "AVRO", "fastavro", _avro),
    "protobuf": Form("Protobuf", "PROTOBUF", "google.protobuf", _protobuf),
}


class _Unreadable(Exception):
    """A message that is no event."""


@dataclass(frozen=True)
class Readers:
    """How messages are read, by the ids of their schemas; a schema never changes, so each is asked for once."""

    registry: Registry
    form: Form
    _known: dict[int, Reader] = field(default_factory=dict)

    def reader(self, number: int, until_s: float = inf) -> Reader:
        """NoSchema where the registry has none of that form, StoreUnavailable where it does not answer; StillAnswering
        where it is to be asked after `until_s` (of the monotonic clock): what it has answered is known the next time.
        """
        if number not in self._known:
            if time.monotonic() > until_s:
                what = "the Schema Registry takes long to answer"
                raise StillAnswering(what, hint="it is asked for the next schemas in a moment")
            self._known[number] = self.form.reader(self.registry.written(number, self.form.kind))
        return self._known[number]

    def close(self) -> None:
        self.registry.close()


def readers(kafka: KafkaStream, environ: Mapping[str, str], source: str) -> Readers | None:
    """Those of a source's topic, None where it is JSON. UsageError where their library is not installed."""
    if kafka.format not in FORMS or kafka.schema_registry is None:
        return None
    known, at = FORMS[kafka.format], f"source '{source}', stream.kafka.schema_registry"
    try:
        import_module(known.library)
    except ImportError:
        what = f"{known.name} needs a library that is not installed"
        raise UsageError(what, hint=f"pip install 'featureflow[{kafka.format}]'", at=at) from None
    from featureflow_cli.sources.schema_registry import SchemaRegistry

    return Readers(SchemaRegistry(kafka.schema_registry, environ, at), known)


def as_json(
    batch: RawBatch,
    readers: Readers,
    *,
    is_replay: bool = False,
    until_s: float = inf,
    found: dict[bytes, Reader] | None = None,
) -> RawBatch:
    """The batch with JSON in place of what came; what cannot be read is among its letters, as it came.

    Of letters that are replayed, those that could be read before are JSON already. `found` is how messages are
    read that begin alike, and comes to know more: who is broken off goes on from there, also past what is nowhere.
    """
    content: list[bytes] = []
    refused: list[Letter] = []
    found = {} if found is None else found
    for index, message in enumerate(batch.content):
        try:
            header = message[:HEADER]
            if header not in found:
                is_json = is_replay and header[:1] != MAGIC
                found[header] = bytes if is_json else _reader(header, readers, until_s)
            text = found[header](message)
            content.append(
                b"%b" % text
            )  # a copy of its size: orjson's own holds on to a kilobyte, new each time
        except _Unreadable as err:
            refused.append(Letter(int(batch.offsets[index]), Reason.UNDECODABLE, str(err), message))
    if not refused:
        return replace(batch, content=content)
    kept = ~np.isin(batch.offsets, [letter.offset for letter in refused])
    return RawBatch(
        content,
        batch.offsets[kept],
        batch.end,
        batch.recorded_at_us,
        letters.join([batch.letters, letters.to_table(refused)]),
    )


def _reader(header: bytes, readers: Readers, until_s: float) -> Reader:
    """One that raises nothing but _Unreadable."""
    if not header:
        return _refusing(NO_VALUE)
    if len(header) < HEADER or header[:1] != MAGIC:
        return _refusing(f"not {readers.form.name} with a schema's id in front")
    number = int.from_bytes(header[1:], "big")
    try:
        read = readers.reader(number, until_s)
    except NoSchema as err:
        return _refusing(f"the Schema Registry has {err} of id {number}")

    def reader(message: bytes) -> bytes:
        try:
            return read(message)
        except Exception as err:  # whatever its parts raise: EOFError, IndexError, DecodeError, …
            what = f"not of the schema {number}: {shown(str(err) or type(err).__name__)}"
            raise _Unreadable(what) from None

    return reader


def _refusing(what: str) -> Reader:
    def reader(_: bytes) -> bytes:
        raise _Unreadable(what)

    return reader
