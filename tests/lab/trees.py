"""Trees of other Debian suites, and a run of the tests in one: its own Dovecot, Postfix, Python and certbot, as packaged.

``python3 -m tests.lab.trees SUITE [PYTEST-ARGUMENT...]``, as root.  A tree is made once, by mmdebstrap, outside of the checkout
(``LAB_TREES``, default ``/var/cache/certbot-dovecot-lab``), and reused; what a run writes goes to memory and is gone after it.
Only the standard library is used here, so that any Python will do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab import packages

CHECKOUT = Path(__file__).parents[2]
PLACE = Path(os.environ.get("LAB_TREES", "/var/cache/certbot-dovecot-lab"))
#: Debian 12, Debian 13, and what is to come.
SUITES = ("bookworm", "trixie", "sid")
PACKAGES = (
    "certbot", "dovecot-core", "dovecot-imapd", "dovecot-managesieved", "dovecot-pop3d", "dovecot-submissiond", "faketime",
    "iproute2", "knot", "nginx-light", "openssl", "patch", "pebble",
    "postfix", "python3", "python3-certbot", "python3-certbot-nginx", "python3-dnspython", "python3-hypothesis",
    "python3-pip", "python3-pytest", "python3-pytest-timeout", "python3-pytest-xdist", "python3-setuptools", "python3-wheel",
    "python3-venv", "python3-zope.interface", "strace", "util-linux",
)  # fmt: skip

#: Run in a mount namespace of its own; $1 tree, $2 checkout, $3 a directory to mount at, the rest is for pytest.
_SCRIPT = """
set -eu
tree=$1 checkout=$2 place=$3; shift 3
mount --make-rprivate /
mount -t tmpfs none "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay none -o "lowerdir=$tree,upperdir=$place/upper,workdir=$place/work" "$place/root"
cd "$place/root"
mkdir -p project
mount --rbind /proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mount --bind "$checkout" project
mount -o remount,bind,ro project
mkdir -p source tmp
cp -r project/certbot_dovecot project/setup.cfg project/pyproject.toml project/README.rst project/LICENSE source
exec chroot . sh -euc '
cd /source
python3 -m pip install --quiet --no-deps --no-index --no-build-isolation --break-system-packages . 2>/source/pip.log ||
    python3 -m pip install --quiet --no-deps --no-index --no-build-isolation . || { cat /source/pip.log >&2; exit 1; }
cd /project
export PYTHONDONTWRITEBYTECODE=1 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec python3 -m pytest -p no:cacheprovider "$@"' sh "$@"
"""


def make(suite: str, needed: Sequence[str] = PACKAGES, name: str = "") -> Path:
    """The tree of a suite; made if it is not there.

    :param needed: the packages in it.
    :param name: of the tree, if it is not that of the suite.
    :raises SystemExit: mmdebstrap cannot be installed, or fails.
    """
    tree = PLACE / (name or suite)
    made_of = tree / "made-of"
    if made_of.exists() and made_of.read_text().split() == list(needed):
        return tree
    if not shutil.which("mmdebstrap"):
        packages.install(["mmdebstrap"])
    PLACE.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f"{suite}.", dir=PLACE))
    command = [
        "mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=Acquire::Check-Valid-Until "false"',
        f"--include={','.join(needed)}", suite, str(making),
    ]  # fmt: skip
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode:
        shutil.rmtree(making, ignore_errors=True)
        sys.exit(f"mmdebstrap could not make a tree of {suite}, see above.")
    (making / made_of.name).write_text("\n".join(needed))
    shutil.rmtree(tree, ignore_errors=True)
    making.rename(tree)
    return tree


def run(suite: str, arguments: list[str]) -> int:
    """Run pytest in a tree; returns its exit code."""
    tree = make(suite)
    with tempfile.TemporaryDirectory() as place:
        command = ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", str(tree), str(CHECKOUT), place, *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in SUITES:
        sys.exit(f"usage: python3 -m tests.lab.trees {{{','.join(SUITES)}}} [PYTEST-ARGUMENT...]")
    sys.exit(run(sys.argv[1], sys.argv[2:]))
