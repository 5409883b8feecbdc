"""The wire format as protoc understands it: descriptors of proto/, compiled once."""

from functools import cache
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from grpc_tools import protoc

ROOT = Path(__file__).parents[2] / "proto"
PACKAGE = "dataaggregator.v1"


@cache
def messages() -> dict[str, Descriptor]:
    """All messages of our package by their short name."""
    pool = descriptor_pool.DescriptorPool()
    found = {}
    for file in _compiled().file:
        pool.Add(file)
        if file.package == PACKAGE:
            names = [message.name for message in file.message_type]
            found.update({name: pool.FindMessageTypeByName(f"{PACKAGE}.{name}") for name in names})
    return found


def parse(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """`data` read as a protobuf message and written again; refuses what the message does not have."""
    message = message_factory.GetMessageClass(messages()[name])()
    json_format.ParseDict(data, message)
    written: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return written


def shape(field: FieldDescriptor) -> str:
    """`string`, `repeated Step`, `map<string, Cast>`, `optional int64`: a field's type in one word."""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return f"map<string, {_type(entry.fields_by_name['value'])}>"
    if field.is_repeated:
        return f"repeated {_type(field)}"
    scalar = field.message_type is None
    return f"optional {_type(field)}" if scalar and field.has_presence else _type(field)


def _type(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return str(field.message_type.name)
    known = {
        FieldDescriptor.TYPE_STRING: "string",
        FieldDescriptor.TYPE_BOOL: "bool",
        FieldDescriptor.TYPE_INT64: "int64",
        FieldDescriptor.TYPE_DOUBLE: "double",
    }
    return known[field.type]


def _compiled() -> descriptor_pb2.FileDescriptorSet:
    included = resources.files("grpc_tools") / "_proto"
    with TemporaryDirectory() as folder:
        out = Path(folder) / "all.binpb"
        files = [str(path.relative_to(ROOT)) for path in sorted(ROOT.rglob("*.proto"))]
        arguments = ["protoc", f"-I{ROOT}", f"-I{included}", f"--descriptor_set_out={out}", "--include_imports"]
        assert protoc.main([*arguments, *files]) == 0, "protoc refuses a file of proto/"
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
