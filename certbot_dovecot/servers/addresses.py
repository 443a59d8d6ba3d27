"""Whether an address is one of this host's now.

A server may listen on an address that the host does not have: a floating one (VRRP, keepalived), which another host has at the
moment, with ``net.ipv4.ip_nonlocal_bind``, or one that was taken away while the server ran.  Whoever connects to it from here
reaches another host, or nobody.  So what the server on this host serves there cannot be seen from here.
"""

from __future__ import annotations

import ipaddress
import socket

_NONLOCAL = "/proc/sys/net/{}/ip_nonlocal_bind"


def is_here(address: str) -> bool:
    """Whether this host has ``address``; nothing is sent.

    :param address: IPv4 or IPv6, without brackets.  A host name is taken to be here: whether it can be reached tells the rest.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return True
    if parsed.is_loopback or parsed.is_unspecified or parsed.is_link_local:
        return True
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            if not _nonlocal_bind(parsed.version):
                one.bind((address, 0))
                return True
            # bind would succeed for any address.  To an address of its own, a host comes from that address.
            one.connect((address, 9))
            return bool(one.getsockname()[0] == address)
    except OSError:
        return False


def _nonlocal_bind(version: int) -> bool:
    try:
        with open(_NONLOCAL.format(f"ipv{version}"), "rb") as file:
            return file.read(1) == b"1"
    except OSError:
        return False


def elsewhere(endpoint: object, address: str) -> str:
    """What is said of an endpoint at an address that is not here, for a note."""
    return (
        f"{endpoint} was not looked at: {address} is no address of this host now. So it is not known what it serves. If "
        "another host has that address for now, nothing is to be done."
    )
