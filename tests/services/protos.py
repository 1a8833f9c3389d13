"""Protobuf's own compiler: what producers do before they run, and readers never."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.type import date_pb2

DECIMAL = """
syntax = "proto3";
package confluent.type;
message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }
"""


def compiled(files: Mapping[str, str]) -> FileDescriptorSet:
    """The descriptors of .proto files (name -> text) and of all that they import, what is imported first."""
    google = Path(date_pb2.__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {"confluent/type/decimal.proto": DECIMAL, **files}.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{google}"]
        subprocess.run([*command, "--include_imports", f"--descriptor_set_out={out}", *files], check=True)
        return FileDescriptorSet.FromString(out.read_bytes())
