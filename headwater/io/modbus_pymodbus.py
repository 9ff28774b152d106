"""A Modbus master over TCP or a serial line, by pymodbus (extra `modbus`)."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from headwater.errors import ConnectError, RejectedError, SettingsError

HINT = "Modbus needs pymodbus: pip install 'headwater[modbus]'"
TIMEOUT_S_DEFAULT = 1.0


class ModbusPymodbus:
    """Reads registers and bits of one line or host.

    Args:
        url: tcp://host[:502] or serial:///dev/ttyUSB0?baud=9600&parity=N.
        timeout_s: of one request.

    Raises:
        SettingsError: the address can't be read or pymodbus is missing.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S_DEFAULT) -> None:
        try:
            from pymodbus.client import ModbusSerialClient, ModbusTcpClient  # noqa: PLC0415 — an extra, imported late.
            from pymodbus.exceptions import ModbusException  # noqa: PLC0415 — same.
        except ImportError as error:
            raise SettingsError(HINT) from error
        self._url = url
        self._failure: type[Exception] = ModbusException
        parts = urlsplit(url)
        if parts.scheme == "tcp" and parts.hostname:
            self._client: Any = ModbusTcpClient(parts.hostname, port=parts.port or 502, timeout=timeout_s, retries=0)
        elif parts.scheme == "serial" and parts.path:
            line = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            baud, parity = int(line.get("baud", "9600")), line.get("parity", "N")
            self._client = ModbusSerialClient(parts.path, baudrate=baud, parity=parity, timeout=timeout_s, retries=0)
        else:
            raise SettingsError(
                f"{url!r} is no Modbus address: write tcp://host:502 or serial:///dev/ttyUSB0?baud=9600"
            )

    def connect(self) -> None:
        """Connects.

        Raises:
            ConnectError: the host or line can't be reached.
        """
        try:
            is_up = self._client.connect()
        except (self._failure, OSError) as error:
            raise ConnectError(f"{self._url}: {error}") from error
        if not is_up:
            raise ConnectError(f"{self._url}: no connection")

    def read(self, kind: str, address: int, count: int, unit: int) -> list[int]:
        """Returns `count` registers ("holding", "input") or bits ("coil", "discrete") from `address` on.

        Raises:
            ConnectError: no answer.
            RejectedError: the device answered with a Modbus exception.
        """
        function = {
            "holding": self._client.read_holding_registers,
            "input": self._client.read_input_registers,
            "coil": self._client.read_coils,
            "discrete": self._client.read_discrete_inputs,
        }[kind]
        try:
            answer = function(address, count=count, device_id=unit)
        except (self._failure, OSError) as error:
            raise ConnectError(f"{self._url}: {error}") from error
        if answer.isError():
            raise RejectedError(f"{self._url}: unit {unit} refuses {kind} {address}: {answer}", reason="modbus")
        values = answer.bits if kind in {"coil", "discrete"} else answer.registers
        return [int(value) for value in values[:count]]

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()
