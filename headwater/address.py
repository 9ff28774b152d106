"""Addresses that a server listens on: who can reach them."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Tells whether only this machine can reach what listens on `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
