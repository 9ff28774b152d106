"""The protobuf messages of a native frame, built at run time from a descriptor (contracts §4).

No generated code stands between a frame and protobuf, so any protobuf from 4.25 on will do. `frame.proto` beside this
file says the same for people and for other languages; a test holds the two equal. A field is never renumbered.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from headwater.reasons import DropReason, GapReason, Severity

PACKAGE: Final = "headwater.v1"
ProtobufError: Final[Any] = message.DecodeError

# Place in the tuple is the number on the wire; append only.
SEVERITIES: Final = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)
GAP_REASONS: Final = (
    GapReason.SPOOL_FULL,
    GapReason.SPOOL_DAMAGED,
    GapReason.MAX_AGE,
    GapReason.LYING_DISK,
    GapReason.PURGED,
)
DROP_REASONS: Final = (
    DropReason.NOT_FINITE,
    DropReason.CLOCK_REGRESS,
    DropReason.DUPLICATE_TIME,
    DropReason.OVERLOAD,
    DropReason.SPOOL_REFUSED,
)

# message → (field, number, type); "*" before a type means repeated.
MESSAGES: Final[dict[str, tuple[tuple[str, int, str], ...]]] = {
    "Block": (
        ("metrics", 1, "bytes"),
        ("rows", 2, "uint32"),
        ("start_us", 3, "sint64"),
        ("unit_us", 4, "uint64"),
        ("step", 5, "uint64"),
        ("columns", 6, "bytes"),
        ("quality", 7, "bytes"),
        ("reductions", 8, "bytes"),
        ("rate_hz", 9, "double"),
    ),
    "Panes": (
        ("metrics", 1, "bytes"),
        ("rows", 2, "uint32"),
        ("columns", 3, "bytes"),
        ("buckets", 4, "uint32"),
        ("sketches", 5, "bytes"),
    ),
    "Anomaly": (
        ("metric", 1, "string"),
        ("time_us", 2, "int64"),
        ("detector", 3, "string"),
        ("severity", 4, "uint32"),
        ("is_onset", 5, "bool"),
        ("score", 6, "double"),
        ("value", 7, "double"),
        ("expected", 8, "double"),
        ("lo", 9, "double"),
        ("hi", 10, "double"),
        ("message", 11, "string"),
    ),
    "Gap": (
        ("epoch", 1, "fixed64"),
        ("from_seq", 2, "uint64"),
        ("to_seq", 3, "uint64"),
        ("reason", 4, "uint32"),
        ("readings", 5, "sint64"),
        ("declared_us", 6, "int64"),
    ),
    "Drop": (
        ("reason", 1, "uint32"),
        ("readings", 2, "uint64"),
    ),
    "Notes": (
        ("panes", 1, "Panes"),
        ("anomalies", 2, "*Anomaly"),
        ("gaps", 3, "*Gap"),
        ("dropped", 4, "*Drop"),
    ),
    "Frame": (
        ("site", 1, "string"),
        ("device", 2, "string"),
        ("epoch", 3, "fixed64"),
        ("seq", 4, "uint64"),
        ("created_us", 5, "int64"),
        ("clock", 6, "uint32"),
        ("oldest_seq", 7, "uint64"),
        ("blocks", 8, "*Block"),
        ("notes", 9, "Notes"),
        ("acquired", 12, "uint64"),
        ("suppressed", 13, "uint64"),
        ("aggregated", 14, "uint64"),
        ("crc32", 15, "fixed32"),
    ),
}


def file_descriptor() -> Any:
    """Returns the FileDescriptorProto of `frame.proto`."""
    file = descriptor_pb2.FileDescriptorProto(name="headwater/frame.proto", package=PACKAGE, syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message_name, fields in MESSAGES.items():
        described = file.message_type.add(name=message_name)
        for field_name, number, kind in fields:
            label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            field = described.field.add(name=field_name, number=number, label=label)
            if kind.lstrip("*") in MESSAGES:
                field.type = kinds.TYPE_MESSAGE
                field.type_name = f".{PACKAGE}.{kind.lstrip('*')}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    return file


def _message_classes(*names: str) -> list[Any]:
    # A pool of our own can't collide with what other libraries register under the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file_descriptor().SerializeToString())
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in names]


FrameMessage, NotesMessage = _message_classes("Frame", "Notes")
