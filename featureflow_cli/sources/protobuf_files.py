"""A Protobuf schema as a Schema Registry has it becomes a file descriptor, with all that it imports."""

from base64 import b64decode
from importlib import import_module
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from featureflow_cli.errors import FeatureflowError
from featureflow_cli.sources.schemas import NoSchema, Written

ROOT = "schema-of-messages.proto"
"""What the schema itself is called here: no other file imports it."""
_DECIMAL = "confluent/type/decimal.proto"
_META = "confluent/meta.proto"
_OLD_DECIMAL = "confluent/types/decimal.proto"
_INT32, _UINT32, _BYTES, _OPTIONAL = 5, 13, 12, 1


def file_of(written: Written) -> Any:
    """Its descriptor, in a pool of its own. NoSchema where it is none; FeatureflowError where it came as text."""
    files = [_descriptor(name, text) for name, text in {**written.references, ROOT: written.text}.items()]
    pool, added = DescriptorPool(), set(written.references)
    try:
        for file in files:
            for name in file.dependency:
                _add_known(pool, name, added)
            pool.AddSerializedFile(file.SerializeToString())
        return pool.FindFileByName(ROOT)
    except (TypeError, KeyError) as err:
        what = f"a schema that is none: {err}"
        raise NoSchema(what) from None


def _descriptor(name: str, text: str) -> Any:
    try:
        file = FileDescriptorProto.FromString(b64decode(text, validate=True))
    except (ValueError, DecodeError):
        what = "the Schema Registry gives the text of a Protobuf schema, and not its descriptor (format=serialized)"
        hint = (
            "Confluent's can, Redpanda's from 25.2; elsewhere register descriptors, as its Python client does"
        )
        raise FeatureflowError(what, hint=hint) from None
    file.name = name
    return file


def _add_known(pool: DescriptorPool, name: str, added: set[str]) -> None:
    """What a schema may import without a reference to it: Google's own files and Confluent's."""
    if name in added:
        return
    added.add(name)
    if name.startswith(("google/protobuf/", "google/type/")):
        try:
            module = import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        except ImportError:
            return  # the pool says what it misses
        for each in module.DESCRIPTOR.dependencies:
            _add_known(pool, each.name, added)
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    elif name == _DECIMAL:
        pool.AddSerializedFile(_decimal_file().SerializeToString())
    elif name == _META:  # it declares options, which decide nothing here
        pool.AddSerializedFile(FileDescriptorProto(name=_META).SerializeToString())
    elif name == _OLD_DECIMAL:
        _add_known(pool, _DECIMAL, added)
        alias = FileDescriptorProto(name=name, dependency=[_DECIMAL], public_dependency=[0])
        pool.AddSerializedFile(alias.SerializeToString())


def _decimal_file() -> Any:
    file = FileDescriptorProto(name=_DECIMAL, package="confluent.type", syntax="proto3")
    decimal = file.message_type.add(name="Decimal")
    for number, (name, kind) in enumerate(
        (("value", _BYTES), ("precision", _UINT32), ("scale", _INT32)), start=1
    ):
        decimal.field.add(name=name, number=number, type=kind, label=_OPTIONAL)
    return file
