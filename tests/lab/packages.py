"""The packages that the lab needs, by what they install.

``python3 -m tests.lab.packages`` prints the missing ones; with ``--install``, as root, it installs them without starting what
they contain.  Only the standard library is used here: this runs before there is a virtual environment.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping

#: Package and the program, file, or (``module:``) Python module that proves it; the names are Debian's.
NEEDED = {
    "dovecot-core": "/usr/sbin/dovecot",
    "dovecot-imapd": "/usr/lib/dovecot/imap-login",
    "dovecot-pop3d": "/usr/lib/dovecot/pop3-login",
    "dovecot-managesieved": "/usr/lib/dovecot/managesieve-login",
    "dovecot-submissiond": "/usr/lib/dovecot/submission-login",
    "postfix": "/usr/sbin/postfix",
    "pebble": "pebble",
    "faketime": "faketime",
    "strace": "strace",
    "openssl": "openssl",
    "iproute2": "ip",
    "knot": "/usr/sbin/knotd",
    "patch": "patch",
    "util-linux": "flock",
    "python3-venv": "module:ensurepip",
}
#: Likewise, for the lab of name servers; the trees of other suites do without.
NAME_SERVERS = {
    "bind9": "/usr/sbin/named",
    "unbound": "/usr/sbin/unbound",
}
#: Likewise, for a host that serves the web too; without it the tests of such a host are skipped.
WEB_SERVERS = {
    "nginx": "/usr/sbin/nginx",
}
#: Likewise, for tests of what is not about mail servers; without them they are skipped.
SHELLS = {
    "zsh": "zsh",
}
#: Likewise: programs that read what we write, and say what they make of it.
READERS = {
    "prometheus": "promtool",
}
_ALL = {**NEEDED, **NAME_SERVERS, **WEB_SERVERS, **SHELLS, **READERS}
_POLICY = "/usr/sbin/policy-rc.d"


def missing(needed: Mapping[str, str] = NEEDED) -> list[str]:
    """Names of packages that are not installed."""
    return [package for package, proof in needed.items() if not _there(proof)]


def install(packages: list[str]) -> None:
    """Install with apt-get; asks the mirrors for their lists only if the ones at hand do not do.

    :raises SystemExit: not root, or apt-get fails.
    """
    if os.geteuid() != 0:
        sys.exit(f"The packages {' '.join(packages)} are missing: run this as root, or install them.")
    print(f"Installing {' '.join(packages)}", flush=True)
    with _nothing_starts():
        fresh = not glob.glob("/var/lib/apt/lists/*Packages*")
        if fresh:
            _apt("update")
        install_them = ("install", "--no-install-recommends", *packages)
        # A second try, with new lists: what the old ones name may be gone from the mirror by now.
        if not _apt(*install_them) and (fresh or not _apt("update") or not _apt(*install_them)):
            sys.exit("apt-get install failed, see above.")
    lacking = missing({package: _ALL.get(package, package) for package in packages})
    if lacking:
        sys.exit(f"After the installation, {' '.join(lacking)} still cannot be found.")


def _apt(*arguments: str) -> bool:
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    return subprocess.run(["apt-get", "-qy", *arguments], env=env, stdin=subprocess.DEVNULL, check=False).returncode == 0


@contextlib.contextmanager
def _nothing_starts() -> Iterator[None]:
    """Let the packages' scripts find a policy by which no service is started (invoke-rc.d(8))."""
    aside = f"{_POLICY}.aside"
    if os.path.lexists(_POLICY):
        os.rename(_POLICY, aside)
    try:
        with open(os.open(_POLICY, os.O_WRONLY | os.O_CREAT, 0o755), "w") as file:
            file.write("#!/bin/sh\nexit 101\n")
        yield
    finally:
        os.unlink(_POLICY)
        if os.path.lexists(aside):
            os.rename(aside, _POLICY)


def _there(proof: str) -> bool:
    if proof.startswith("module:"):
        return importlib.util.find_spec(proof.partition(":")[2]) is not None
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"])
    return shutil.which(proof, path=path) is not None


if __name__ == "__main__":
    lacking = missing(_ALL)
    if "--install" not in sys.argv[1:]:
        print(" ".join(lacking))
    elif lacking:
        install(lacking)
