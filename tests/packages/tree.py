"""Commands in a tree of a Debian suite: a copy that is gone afterwards, with no network but loopback.

The trees are those of :mod:`tests.lab.trees`: for installing, the one that the tests of that suite run in, which has certbot
and the servers and nothing of ours; for building, one with the build tools, ``SUITE-build``.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from typing import IO

from tests.lab import trees

#: What builds: packages of both suites.
BUILD = (
    "bash-completion", "build-essential", "debhelper", "dh-python", "iproute2", "lintian", "man-db",
    "pybuild-plugin-pyproject", "python3-acme", "python3-all", "python3-certbot", "python3-configobj",
    "python3-cryptography", "python3-dnspython", "python3-hypothesis", "python3-pip", "python3-pytest", "python3-setuptools",
    "python3-sphinx", "python3-wheel", "python3-zope.interface", "rpm", "rpmlint", "zsh",
)  # fmt: skip

#: $1 tree, $2 a directory to mount at, $3 the directory to share, as /out; the rest is run.
_SCRIPT = """
set -eu
tree=$1 place=$2 out=$3; shift 3
mount --make-rprivate /
ip link set lo up
mount -t tmpfs none "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay none -o "lowerdir=$tree,upperdir=$place/upper,workdir=$place/work" "$place/root"
cd "$place/root"
mkdir out
mount --rbind /proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mount --bind "$out" out
exec chroot . env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
"""


#: By tree: two jobs at a time may want the same one.
_making: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class Failed(Exception):
    """A command in a tree failed; the text says which, its output is in the log."""


def build_tree(suite: str) -> Path:
    """The tree that packages are built in."""
    with _making[f"{suite}-build"]:
        return trees.make(suite, BUILD, f"{suite}-build")


def test_tree(suite: str) -> Path:
    """The tree that packages are installed in."""
    with _making[suite]:
        return trees.make(suite)


def run(tree: Path, out: Path, log: IO[str], what: str, script: str, *arguments: str) -> None:
    """Run a shell script in a fresh copy of ``tree``.

    :param out: a directory that it sees as ``/out``.
    :param log: where its output goes.
    :param what: what it does, for the log and for the message.
    :raises Failed: it fails.
    """
    print(f"== {what}", file=log, flush=True)
    with tempfile.TemporaryDirectory() as place:
        command = [
            "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", _SCRIPT, "sh",
            str(tree), place, str(out), "sh", "-euc", script, "sh", *arguments,
        ]  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise Failed(f"{what}: exit code {done.returncode}")
