"""The address of this host that others can reach (spec 04, 3.3: interface hints)."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct

_SIOCGIFADDR = 0x8915
_ROUTES, _ROUTES6, _ADDRESSES6 = "/proc/net/route", "/proc/net/ipv6_route", "/proc/net/if_inet6"


def find_address(hint: str, ipv6: bool = False) -> str:
    """The address that a hint stands for, as ZeroMQ takes it: `192.0.2.1`, `[2001:db8::1]`.

    Args:
        hint: `default-route`, `hostname`, an interface, or an IPv4 network (`10.0.2.0/24`).
        ipv6: prefer an address of IPv6.

    Raises OSError with the text for the user.
    """
    if hint == "hostname":
        return _by_name(socket.gethostname(), ipv6)
    if "/" in hint:
        return _in_network(hint)
    if hint == "default-route":
        name = _default_interface()
        # A host without a way out, as in a test: its name has to do; or itself, and nobody else reaches it.
        return _of_interface(name, ipv6) if name is not None else _by_name(socket.gethostname(), ipv6)
    return _of_interface(hint, ipv6)


def _lines(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="ascii") as file:
            return [line.split() for line in file]
    except OSError:
        return []


def _default_interface() -> str | None:
    """The interface of the default route with the lowest metric."""
    found = [(int(words[6]), words[0]) for words in _lines(_ROUTES)[1:] if words[1] == "00000000" == words[7]]
    if not found:
        found = [
            (int(words[5], 16), words[9])
            for words in _lines(_ROUTES6)
            if words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo"
        ]
    return min(found)[1] if found else None


def _of_interface(name: str, ipv6: bool) -> str:
    six = _ipv6_of(name)
    if ipv6 and six:
        return six
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, struct.pack("256s", os.fsencode(name)[:15]))
        except OSError as exc:
            if six:
                return six
            raise OSError(exc.errno, f"no address of interface {name}: {exc.strerror}") from None
    return socket.inet_ntoa(answer[20:24])


def _ipv6_of(name: str) -> str | None:
    for words in _lines(_ADDRESSES6):
        if words[5] == name and words[3] in ("00", "80"):  # global; those of a link need a scope
            return f"[{ipaddress.IPv6Address(bytes.fromhex(words[0]))}]"
    return None


def _in_network(text: str) -> str:
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError as exc:
        raise OSError(errno.EINVAL, f"interface hint: {exc}") from None
    for _, name in socket.if_nameindex():
        try:
            address = _of_interface(name, False)
        except OSError:
            continue  # an interface without an address
        if not address.startswith("[") and ipaddress.IPv4Address(address) in network:
            return address
    raise OSError(errno.EADDRNOTAVAIL, f"no interface has an address in {text}")


def _by_name(name: str, ipv6: bool) -> str:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise OSError(exc.errno, f"no address of host {name}: {exc.strerror}") from None
    wanted = socket.AF_INET6 if ipv6 else socket.AF_INET
    for family, *_, address in sorted(found, key=lambda entry: entry[0] != wanted):
        if family == socket.AF_INET:
            return str(address[0])
        if family == socket.AF_INET6 and "%" not in str(address[0]):
            return f"[{address[0]}]"
    raise OSError(errno.EADDRNOTAVAIL, f"no address of host {name}")
