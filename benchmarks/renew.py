"""``certbot renew`` with nothing due, and the time from the last file written to the last endpoint proven.

``python -m benchmarks.renew [ROUNDS]``, as root, in an environment with certbot and this package.  Everything runs in the lab's
private namespace: 1, 10 and 100 lineages on one Dovecot and Postfix, each with its own name.  The same renewal configurations,
without the installer's name in them, tell what certbot itself takes.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from collections.abc import Iterator

from certbot_dovecot import commands, jobs, reconcile
from certbot_dovecot.transaction import NoCheckpoint
from tests.lab import lab as labs
from tests.lab.lab import Lab

CONFIG = "/etc/letsencrypt"
_CONF = """\
version = 2.1.0
archive_dir = {config}/archive/{name}
cert = {config}/live/{name}/cert.pem
privkey = {config}/live/{name}/privkey.pem
chain = {config}/live/{name}/chain.pem
fullchain = {config}/live/{name}/fullchain.pem
[renewalparams]
account = {account}
authenticator = standalone
installer = dovecot
server = {server}
key_type = ecdsa
"""


def make(lab: Lab, number: int) -> str:
    """A lineage as certbot keeps it, with a certificate of the lab's authority: its name."""
    name = f"n{number}.test"
    for kind in ("live", "archive", ""):
        os.makedirs(f"{CONFIG}/{kind}/{name}" if kind else f"{CONFIG}/renewal", exist_ok=True)
    renew(lab, name)
    for kind in ("cert", "privkey", "chain", "fullchain"):
        os.symlink(f"../../archive/{name}/{kind}1.pem", f"{CONFIG}/live/{name}/{kind}.pem")
    with open(f"{CONFIG}/renewal/{name}.conf", "w") as file:
        file.write(_CONF.format(config=CONFIG, name=name, account="0" * 32, server=lab.host.acme))
    return name


def renew(lab: Lab, name: str) -> None:
    """Another certificate for a lineage."""
    made = lab.ca.leaf([name])
    files = {"cert": made.cert_pem, "privkey": made.key_pem(), "chain": made.chain_pem, "fullchain": made.fullchain_pem}
    for kind, data in files.items():
        with open(f"{CONFIG}/archive/{name}/{kind}1.pem", "wb") as file:
            file.write(data)


def deploy(name: str) -> float:
    """Install or update it; seconds from the last file written to the last endpoint proven."""
    chosen = jobs.options(CONFIG, name, {})
    job = jobs.of_lineage(CONFIG, jobs.existing(CONFIG, name), chosen, explicit=True)
    deployment = reconcile.begin(jobs.host(CONFIG, chosen, commands.run, NoCheckpoint()), job)
    if deployment is None:
        raise RuntimeError(f"{name} was true already")
    begin = time.perf_counter()
    deployment.prove()
    return time.perf_counter() - begin


def timed(lab: Lab) -> float:
    """Seconds of one ``certbot renew``."""
    begin = time.perf_counter()
    lab.host.certbot("renew", "-q")
    return time.perf_counter() - begin


def installer(named: bool) -> None:
    """Let the renewal configurations name the installer or not."""
    for conf in os.listdir(f"{CONFIG}/renewal"):
        with open(f"{CONFIG}/renewal/{conf}", "r+") as file:
            text = re.sub(r"installer = \w+", f"installer = {'dovecot' if named else 'None'}", file.read())
            file.seek(0)
            file.write(text)
            file.truncate()


def table(lab: Lab, rounds: int) -> Iterator[str]:
    """The lines of the tables."""
    lab.host.reset()
    lab.host.write("/etc/dovecot/local.conf", "service config {\n  vsz_limit = 2 G\n}\n")
    lab.host.restart("dovecot")
    lab.host.write(f"{CONFIG}/cli.ini", f"server = {lab.host.acme}\nno-random-sleep-on-renew = true\n")
    made = 0
    proofs: list[float] = []
    yield f"{'lineages':>9} {'with s':>8} {'without s':>10} {'ms a lineage':>13}"
    for count in (1, 10, 100):
        while made < count:
            deploy(make(lab, made))
            made += 1
        if count == 1:
            for _ in range(5):
                renew(lab, "n0.test")
                proofs.append(deploy("n0.test"))
        lab.host.certbot("renew", "-q")
        found: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(rounds):
            for named in found:
                installer(named)
                found[named].append(timed(lab))
        ours, theirs = statistics.median(found[True]), statistics.median(found[False])
        yield f"{count:9} {ours:8.3f} {theirs:10.3f} {1000 * (ours - theirs) / count:13.1f}"
    yield f"from the last file written to the last endpoint proven: {1000 * statistics.median(proofs):.0f} ms"


def main(rounds: int = 5) -> int:
    """Measure and print."""
    with labs.enter() as lab:
        for line in table(lab, rounds):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
