"""Pebble, the ACME server for tests: a CA that believes every name, on the lab's loopback."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Optional

from tests.lab import namespace
from tests.lab.ca import CA, DAY
from tests.lab.clock import Shift

#: The directory's address, for ``--server``.
URL = "https://localhost:14000/dir"


class Pebble:
    """A running Pebble.

    :ivar pid: its process id.
    :ivar bundle: the file of the CA that signed *its own* HTTPS certificate, for ``REQUESTS_CA_BUNDLE``.
    """

    def __init__(self, place: str, lifetime: int = 90 * DAY) -> None:
        """Start it.

        :param place: a directory for its files.
        :param lifetime: seconds that its certificates are valid.
        """
        os.makedirs(place)
        authority = CA.make("Pebble HTTPS")
        pair = authority.leaf(["localhost"], end=3000 * DAY).write(place, "https")
        self.bundle = f"{place}/bundle.pem"
        with open(self.bundle, "wb") as file:
            file.write(authority.root.cert_pem)
        config = {
            "listenAddress": "127.0.0.1:14000",
            "managementListenAddress": "127.0.0.1:15000",
            "certificate": pair.fullchain,
            "privateKey": pair.key,
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "certificateValidityPeriod": lifetime,
            "retryAfter": {"authz": 0, "order": 0},
        }
        with open(f"{place}/pebble.json", "w") as file:
            json.dump({"pebble": config}, file)
        # Every name is valid without asking, no artificial delay, no artificial bad nonces; a name that an account has
        # proven stays proven, as Let's Encrypt has it.
        env = dict(
            os.environ, PEBBLE_VA_ALWAYS_VALID="1", PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT="0", PEBBLE_AUTHZREUSE="100"
        )
        with open(f"{place}/pebble.log", "wb") as log:
            self._process = subprocess.Popen(
                ["pebble", "-config", f"{place}/pebble.json"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=place,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._clock: Optional[Shift] = None
        deadline = time.monotonic() + 20
        while 14000 not in namespace.listening():
            if self._process.poll() is not None or time.monotonic() > deadline:
                with open(f"{place}/pebble.log") as file:
                    raise RuntimeError(f"Pebble does not start: {file.read()}")
            time.sleep(0.01)

    def date(self, now: float) -> None:
        """Let it be ``now`` (seconds since 1970) for this CA: certificates begin then, and its clock runs on from there.

        :raises Unavailable: not on this machine.
        """
        if self._clock is None:
            self._clock = Shift(self.pid)
        self._clock.set(round(now - time.time()))

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
