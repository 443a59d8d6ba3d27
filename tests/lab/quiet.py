"""A DNS in which nothing is published: Knot, with authority for every name, on port 53 of loopback.

A new year's key depends on what the DNS says, and a host whose DNS cannot be asked keeps its key.  So a lab has this one from
the beginning: its only zone is the root, which is not signed and holds nothing but its own name server.  The name servers of
:mod:`tests.lab.names`, which have something to say, run beside it on other addresses.
"""

from __future__ import annotations

import os
import subprocess
import time

import dns.exception
import dns.message
import dns.query

from tests.lab import namespace
from tests.lab.namespace import Unavailable

ADDRESS = "127.0.0.1"
_ZONE = f"""\
$ORIGIN .
$TTL 60
@ IN SOA ns.lab. hostmaster.lab. 1 3600 600 86400 60
@ IN NS ns.lab.
ns.lab. IN A {ADDRESS}
"""


class Quiet:
    """The server, running.

    :ivar pid: its process id.
    :raises Unavailable: it does not start.
    """

    def __init__(self) -> None:
        place = f"{namespace.PLACE}/quiet"
        os.makedirs(place)
        for name, text in (
            ("zone", _ZONE),
            (
                "conf",
                f"server:\n  listen: {ADDRESS}@53\n  rundir: {place}\n  user: root\n  udp-workers: 1\n  tcp-workers: 1\n"
                f"database:\n  storage: {place}\nlog:\n  - target: stderr\n    any: warning\n"
                f"zone:\n  - domain: .\n    file: {place}/zone\n",
            ),
        ):
            with open(f"{place}/{name}", "w") as file:
                file.write(text)
        with open(f"{place}/log", "wb") as log:
            self._process = subprocess.Popen(
                ["/usr/sbin/knotd", "-c", f"{place}/conf"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + 20
        while not _answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                with open(f"{place}/log", errors="replace") as file:
                    raise Unavailable(f"a name server that starts: {file.read()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(10)


def _answers() -> bool:
    try:
        return bool(dns.query.udp(dns.message.make_query(".", "SOA"), ADDRESS, 0.5).answer)
    except (dns.exception.DNSException, OSError):
        return False
