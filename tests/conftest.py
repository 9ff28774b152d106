"""Rules for all tests: no network outside integration tests, and a missing server is a failure under CI=true."""

import pytest
import pytest_socket
from kafka_server import kafka

__all__ = ["kafka"]  # A fixture for all tests.


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Blocks sockets for tests that are not marked as integration; Unix sockets stay, event loops need them."""
    if item.get_closest_marker("integration") is None:
        pytest_socket.disable_socket(allow_unix_socket=True)


def pytest_runtest_teardown() -> None:
    """Gives sockets back."""
    pytest_socket.enable_socket()
