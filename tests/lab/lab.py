"""The lab of this process: :func:`enter` once, at its start; then there is one mail host in it, and a CA."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab import commands, distribution, namespace, packages, quiet
from tests.lab.ca import CA, DAY, self_signed
from tests.lab.mailhost import MailHost
from tests.lab.namespace import Unavailable
from tests.lab.pebble import Pebble
from tests.lab.quiet import Quiet

_CHECKOUT = Path(__file__).parents[2]
_ETC = {
    "hosts": f"127.0.0.1 localhost\n127.0.1.1 {distribution.HOSTNAME} mail\n::1 localhost ip6-localhost\n",
    "hostname": "mail\n",
    "mailname": f"{distribution.HOSTNAME}\n",
    "resolv.conf": f"nameserver {quiet.ADDRESS}\n",
    "aliases": "postmaster: root\n",
}


@dataclass(frozen=True)
class Lab:
    """A lab that stands.

    :param host: its mail host; :meth:`~tests.lab.mailhost.MailHost.reset` it before use.
    :param ca: an authority for pairs that certbot did not issue.
    :param machine: the path of the machine's own root, outside of the namespace.
    :param acme: the CA that certbot talks to.
    """

    host: MailHost
    ca: CA
    machine: str
    acme: Pebble


@contextlib.contextmanager
def enter(lifetime: int = 90 * DAY) -> Iterator[Lab]:
    """Move this process into its own namespace, for good, and set up the lab there.

    :param lifetime: seconds that certificates of the ACME server are valid.
    :raises Unavailable: packages or permissions are missing; the text names them.
    """
    lacking = packages.missing()
    if lacking:
        raise Unavailable(f"the lab needs the packages {' '.join(lacking)}")
    try:
        machine = f"/proc/{os.getpid()}/fd/{namespace.enter('mail')}"
    except Unavailable as exc:
        raise Unavailable(f"the lab needs {exc}") from exc
    reaper = subprocess.Popen(
        [sys.executable, "-m", "tests.lab.reaper"], stdin=subprocess.PIPE, cwd=_CHECKOUT, start_new_session=True
    )
    _furnish()
    acme = Pebble(f"{namespace.PLACE}/pebble", lifetime)
    names = Quiet()
    spare = (acme.pid, reaper.pid, names.pid)
    try:
        yield Lab(MailHost(machine, acme.bundle, spare), CA.make(), machine, acme)
    finally:
        namespace.sweep(spare)
        acme.stop()
        names.stop()
        # Not by closing its input: it would kill this process too.
        reaper.kill()
        reaper.wait(10)


def _furnish() -> None:
    """The files of ``/etc`` that mail hosts have, over the machine's."""
    for name, text in _ETC.items():
        path = f"/etc/{name}"
        if os.path.lexists(path):
            # It may be a link to somewhere else.
            os.unlink(path)
        distribution.write(path, text)
    commands.run(["/usr/sbin/postalias", "-c", f"{namespace.PLACE}", "hash:/etc/aliases"], check=False)
    made = self_signed(distribution.HOSTNAME)
    cert, key = distribution.SNAKEOIL
    os.makedirs(os.path.dirname(key), 0o710, exist_ok=True)
    for path, data, mode in ((cert, made.cert_pem, 0o644), (key, made.key_pem(), 0o640)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, mode), "wb") as file:
            file.write(data)
