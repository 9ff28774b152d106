"""Every exception that Headwater raises on purpose.

    HeadwaterError
    ├── SettingsError          the user's settings are wrong (the CLI exits with 78)
    ├── InvalidNameError       a site, device or metric name breaks the rule of names.py
    ├── ConnectError           a peer can't be reached now: the host retries
    ├── RejectedError          a peer said no and would say it again; carries its reason
    ├── DecodeError            bytes are not what they claim; carries a DeadLetterReason
    ├── CorruptStateError      stored state can't be trusted; never guess on from here
    └── LimitError             a bound that the settings name was reached

Bad data is a value, not an exception: decoders of whole batches return rejects beside the good rows and
`DecodeError` stays inside one message.
"""

from headwater.reasons import DeadLetterReason


class HeadwaterError(Exception):
    """Anything that Headwater raises on purpose."""


class SettingsError(HeadwaterError):
    """The settings are wrong; the message says what, where and how to fix it."""


class InvalidNameError(HeadwaterError, ValueError):
    """A name breaks the rule of `headwater.names`."""


class ConnectError(HeadwaterError):
    """A peer can't be reached now; trying again may help."""


class RejectedError(HeadwaterError):
    """A peer refused; trying the same again will not help."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DecodeError(HeadwaterError, ValueError):
    """Bytes are not what they claim to be."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class CorruptStateError(HeadwaterError):
    """Stored state fails its own checks."""


class LimitError(HeadwaterError):
    """A bound that the settings name was reached."""
