"""An I²C bus of this machine, by smbus2 (extra `i2c`)."""

from typing import Any

from headwater.errors import ConnectError, SettingsError

HINT = "I2C needs smbus2: pip install 'headwater[i2c]'"


class I2cSmbus2:
    """Reads and writes registers of one device on a bus.

    Raises:
        SettingsError: smbus2 is missing.
    """

    def __init__(self, bus: int, address: int) -> None:
        try:
            from smbus2 import SMBus  # noqa: PLC0415 — an extra, imported late.
        except ImportError as error:
            raise SettingsError(HINT) from error
        self._make: Any = SMBus
        self._number, self._address = bus, address
        self._bus: Any = None

    def open(self) -> None:
        """Opens the bus; ConnectError if there is none."""
        try:
            self._bus = self._make(self._number)
        except OSError as error:
            raise ConnectError(f"I2C bus {self._number}: {error.strerror}") from error

    def read(self, register: int, count: int) -> bytes:
        """Reads registers; ConnectError if the device doesn't answer."""
        try:
            return bytes(self._bus.read_i2c_block_data(self._address, register, count))
        except OSError as error:
            raise ConnectError(f"I2C device {self._address:#x} on bus {self._number}: {error}") from error

    def write(self, register: int, value: int) -> None:
        """Writes one register; ConnectError if the device doesn't answer."""
        try:
            self._bus.write_byte_data(self._address, register, value)
        except OSError as error:
            raise ConnectError(f"I2C device {self._address:#x} on bus {self._number}: {error}") from error

    def close(self) -> None:
        """Closes the bus."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None
