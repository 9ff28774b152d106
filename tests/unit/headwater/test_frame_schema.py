"""The readable frame.proto and the descriptor built at run time say the same."""

import re
from pathlib import Path

import headwater
from headwater.frame_schema import (
    DROP_REASONS,
    GAP_REASONS,
    MESSAGES,
    PACKAGE,
    SEVERITIES,
    FrameMessage,
    file_descriptor,
)
from headwater.reasons import DropReason, GapReason, Severity

TEXT = (Path(headwater.__file__).parent / "frame.proto").read_text(encoding="utf-8")
TYPES = {1: "double", 3: "int64", 4: "uint64", 6: "fixed64", 7: "fixed32", 8: "bool", 9: "string", 12: "bytes"}
TYPES |= {13: "uint32", 18: "sint64"}


def messages_of_text() -> dict[str, list[tuple[str, int, str]]]:
    plain = re.sub(r"//.*", "", TEXT)
    found = {}
    for name, body in re.findall(r"message (\w+) \{(.*?)\}", plain, re.DOTALL):
        fields = re.findall(r"(repeated )?(\w+) (\w+) = (\d+);", body)
        found[name] = [(field, int(number), "*" * bool(many) + kind) for many, kind, field, number in fields]
    return found


def messages_of_descriptor() -> dict[str, list[tuple[str, int, str]]]:
    found = {}
    for message in file_descriptor().message_type:
        found[message.name] = [
            (
                field.name,
                field.number,
                "*" * (field.label == 3) + (field.type_name.rpartition(".")[2] or TYPES[field.type]),
            )
            for field in message.field
        ]
    return found


def test_the_proto_file_and_the_descriptor_have_the_same_messages() -> None:
    assert messages_of_text() == messages_of_descriptor()
    assert list(messages_of_text()) == list(MESSAGES)
    assert f"package {PACKAGE};" in TEXT
    assert 'syntax = "proto3";' in TEXT


def test_the_message_class_has_the_same_fields() -> None:
    fields = [(field.name, field.number) for field in FrameMessage.DESCRIPTOR.fields]
    assert fields == [(name, number) for name, number, _ in MESSAGES["Frame"]]


def test_every_reason_has_its_number_in_the_proto_file() -> None:
    assert set(DROP_REASONS) == set(DropReason)
    assert set(GAP_REASONS) == set(GapReason)
    assert set(SEVERITIES) == set(Severity)
    for reasons in (DROP_REASONS, GAP_REASONS, SEVERITIES):
        listed = ", ".join(f"{number} {reason}" for number, reason in enumerate(reasons))
        assert listed in TEXT
