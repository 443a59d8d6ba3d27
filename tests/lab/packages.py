"""The packages that the lab needs, by what they install; ``python3 -m tests.lab.packages`` prints the missing ones.

Only the standard library is used here: this runs before there is a virtual environment.
"""

from __future__ import annotations

import importlib.util
import os
import shutil

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
    "util-linux": "flock",
    "python3-venv": "module:ensurepip",
}


def missing() -> list[str]:
    """Names of packages that are not installed."""
    return [package for package, proof in NEEDED.items() if not _there(proof)]


def _there(proof: str) -> bool:
    if proof.startswith("module:"):
        return importlib.util.find_spec(proof.partition(":")[2]) is not None
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"])
    return shutil.which(proof, path=path) is not None


if __name__ == "__main__":
    print(" ".join(missing()))
