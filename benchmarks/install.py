"""``certbot install`` of 100 names: our installer into Dovecot, and certbot-nginx into nginx, side by side.

``python -m benchmarks.install [ROUNDS]``, as root, in an environment with certbot, certbot-nginx and this package; Debian's
``nginx-light`` is installed if it is not there.  Everything runs in the lab's private namespace.  Blocks are ``local_name``
blocks of Dovecot and ``server`` blocks of nginx.  A figure is the median; peak memory is that of certbot and what it starts.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from certbot_dovecot.servers.dovecot_conf import V23, V24
from tests.lab import lab as labs
from tests.lab import packages
from tests.lab.lab import Lab

NAMES = 100
_NGINX = "events {}\nhttp {\n  server_names_hash_max_size 8192;\n%s}\n"


@dataclass(frozen=True)
class Run:
    """Seconds of wall time, and peak memory in MiB."""

    seconds: float
    memory: float


def measure(lab: Lab, installer: str, given: list[str]) -> Run:
    """One ``certbot install``."""
    certbot = os.path.join(os.path.dirname(sys.executable), "certbot")
    names = [part for number in range(NAMES) for part in ("-d", f"n{number}.test")]
    command = [certbot, "install", "--installer", installer, "--no-redirect", *given, *names]
    begin = time.perf_counter()
    with open("/run/lab/certbot.out", "w+b") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=lab.host.environment(), cwd="/"
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            out.seek(0)
            sys.exit(f"{installer}: exit code {process.returncode}\n{out.read().decode()}")
    return Run(seconds, used.ru_maxrss / 1024)


def dovecot(lab: Lab, blocks: int, given: list[str]) -> Run:
    """Into a Dovecot with ``blocks`` local_name blocks."""
    host = lab.host
    host.reset()
    version = host.run("dovecot", "--version").stdout
    dialect = V24 if version >= "2.4" else V23
    own = f"{dialect.mark}/etc/dovecot/private/dovecot"
    inner = f"  {dialect.cert} = {own}.pem\n  {dialect.key} = {own}.key\n"
    text = "service config {\n  vsz_limit = 2 G\n}\n"
    text += "".join(f"local_name n{number}.test {{\n{inner}}}\n" for number in range(blocks))
    host.write("/etc/dovecot/local.conf", text)
    host.restart("dovecot")
    return measure(lab, "dovecot", given)


def nginx(lab: Lab, blocks: int, given: list[str]) -> Run:
    """Into an nginx with ``blocks`` server blocks."""
    lab.host.reset(start=False)
    each = max(1, NAMES // blocks)
    groups = [" ".join(f"n{number}.test" for number in range(at, at + each)) for at in range(0, max(blocks, NAMES), each)]
    servers = "".join(f"  server {{\n    listen 80;\n    server_name {names};\n  }}\n" for names in groups)
    os.makedirs("/etc/nginx", exist_ok=True)
    os.makedirs("/var/log/nginx", exist_ok=True)
    for name in os.listdir("/etc/nginx"):
        path = f"/etc/nginx/{name}"
        if os.path.isfile(path):
            os.unlink(path)
    lab.host.write("/etc/nginx/nginx.conf", _NGINX % servers)
    return measure(lab, "nginx", given)


def table(lab: Lab, rounds: int) -> Iterator[str]:
    """The lines of the table."""
    made = lab.ca.leaf([f"n{number}.test" for number in range(NAMES)])
    yield f"certbot install of {NAMES} names, medians of {rounds} rounds"
    yield f"{'blocks':>7} {'dovecot s':>10} {'nginx s':>10} {'ratio':>7} {'dovecot MiB':>12} {'nginx MiB':>10}"
    for blocks in (10, 100, 1000):
        runs: dict[str, list[Run]] = {"dovecot": [], "nginx": []}
        for _ in range(rounds if blocks < 1000 else 1):
            for name, function in (("dovecot", dovecot), ("nginx", nginx)):
                os.makedirs("/run/lab/pair", exist_ok=True)
                paths = made.write("/run/lab/pair")
                given = [f"--cert-path={paths.cert}", f"--key-path={paths.key}", f"--chain-path={paths.chain}"]
                given.append(f"--fullchain-path={paths.fullchain}")
                runs[name].append(function(lab, blocks, given))
        ours, theirs = (statistics.median(run.seconds for run in runs[name]) for name in runs)
        peak = [max(run.memory for run in runs[name]) for name in runs]
        yield f"{blocks:7} {ours:10.2f} {theirs:10.2f} {theirs / ours:7.1f} {peak[0]:12.0f} {peak[1]:10.0f}"


def main(rounds: int = 3) -> int:
    """Measure and print."""
    if not os.path.exists("/usr/sbin/nginx"):
        packages.install(["nginx-light"])
    with labs.enter() as lab:
        for line in table(lab, rounds):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
