"""The protobuf messages of Sparkplug B payloads, built at run time from a descriptor, and the numbers of its data types.

Written from the Sparkplug specification 3.0, chapter 6. Only what Headwater reads or writes has fields: a data set or a
template stays bytes, and so do text and property sets until somebody asks for them, because then bytes that are not
UTF-8 or a hundred nested sets cost nothing and are our own, clear error. On the wire that makes no difference.
"""

from enum import IntEnum
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

PACKAGE: Final = "headwater.sparkplug"
ProtobufError: Final[Any] = message.DecodeError


class DataType(IntEnum):
    """Types of a metric's value, by their numbers on the wire."""

    UNKNOWN = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATE_TIME = 13
    TEXT = 14
    UUID = 15
    DATA_SET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTY_SET = 20
    PROPERTY_SET_LIST = 21
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31
    BOOLEAN_ARRAY = 32
    STRING_ARRAY = 33
    DATE_TIME_ARRAY = 34


# message → (field, number, type); "*" before a type means repeated, "?" that it is one of the alternatives "value".
MESSAGES: Final[dict[str, tuple[tuple[str, int, str], ...]]] = {
    "PropertyValue": (
        ("type", 1, "uint32"),
        ("is_null", 2, "bool"),
        ("int_value", 3, "?uint32"),
        ("long_value", 4, "?uint64"),
        ("float_value", 5, "?float"),
        ("double_value", 6, "?double"),
        ("boolean_value", 7, "?bool"),
        ("string_value", 8, "?bytes"),
        ("propertyset_value", 9, "?bytes"),
        ("propertysets_value", 10, "?bytes"),
    ),
    "PropertySet": (
        ("keys", 1, "*bytes"),
        ("values", 2, "*PropertyValue"),
    ),
    "Metric": (
        ("name", 1, "bytes"),
        ("alias", 2, "uint64"),
        ("timestamp", 3, "uint64"),
        ("datatype", 4, "uint32"),
        ("is_historical", 5, "bool"),
        ("is_transient", 6, "bool"),
        ("is_null", 7, "bool"),
        ("metadata", 8, "bytes"),
        ("properties", 9, "bytes"),
        ("int_value", 10, "?uint32"),
        ("long_value", 11, "?uint64"),
        ("float_value", 12, "?float"),
        ("double_value", 13, "?double"),
        ("boolean_value", 14, "?bool"),
        ("string_value", 15, "?bytes"),
        ("bytes_value", 16, "?bytes"),
        ("dataset_value", 17, "?bytes"),
        ("template_value", 18, "?bytes"),
        ("extension_value", 19, "?bytes"),
    ),
    "Payload": (
        ("timestamp", 1, "uint64"),
        ("metrics", 2, "*Metric"),
        ("seq", 3, "uint64"),
        ("uuid", 4, "bytes"),
        ("body", 5, "bytes"),
        # From 6 on the numbers are free for extensions; others pass over what they don't know.
        ("frame", 1000, "bytes"),
        ("status", 1001, "bytes"),
    ),
}


def file_descriptor() -> Any:
    """Returns the FileDescriptorProto; proto2, so that a field that is absent differs from one that is 0."""
    file = descriptor_pb2.FileDescriptorProto(name="headwater/sparkplug.proto", package=PACKAGE, syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message_name, fields in MESSAGES.items():
        described = file.message_type.add(name=message_name)
        if any(kind.startswith("?") for _, _, kind in fields):
            described.oneof_decl.add(name="value")
        for field_name, number, kind in fields:
            label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            field = described.field.add(name=field_name, number=number, label=label)
            bare = kind.lstrip("*?")
            if bare in MESSAGES:
                field.type = kinds.TYPE_MESSAGE
                field.type_name = f".{PACKAGE}.{bare}"
            else:
                field.type = getattr(kinds, f"TYPE_{bare.upper()}")
            if kind.startswith("?"):
                field.oneof_index = 0
    return file


def _pool() -> Any:
    # A pool of our own can't collide with what other libraries register under the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file_descriptor().SerializeToString())
    return pool


def _message_class(pool: Any, name: str) -> Any:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


_POOL: Final[Any] = _pool()
PayloadMessage: Final[Any] = _message_class(_POOL, "Payload")
PropertySetMessage: Final[Any] = _message_class(_POOL, "PropertySet")
