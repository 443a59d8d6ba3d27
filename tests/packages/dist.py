"""The sdist and the wheel: made twice, complete, installed by pip beside a packaged certbot, tested from the unpacked sdist."""

from __future__ import annotations

import filecmp
import tarfile
import zipfile
from pathlib import Path
from typing import IO

from tests.packages import debian, source, tree

#: Where the newest setuptools is; it names the archive as it is to be named.
MAKER = "trixie"

_MAKE = """
umask "$2"
cp -r /out/source "/$1"
cd "/$1"
SOURCE_DATE_EPOCH=$3 python3 -m tests.packages.release "/out/$1"
"""
#: Without network; as pip's own options say, nothing but the archive is used.
_INSTALL = """
export PATH=/usr/local/sbin:/usr/local/bin:$PATH
for archive in /out/one/*.whl /out/one/*.tar.gz; do
    echo "== $archive"
    ! certbot plugins --installers 2>/dev/null | grep '^\\* dovecot$'
    python3 -m pip install --no-index --no-deps --no-build-isolation --break-system-packages "$archive"
    certbot plugins --installers | grep '^\\* dovecot$'
    certbot-dovecot --version
    test -s /usr/local/share/man/man1/certbot-dovecot.1
    test -s /usr/local/share/man/man7/certbot-dovecot.7
    python3 -m pip uninstall --yes --break-system-packages certbot-dovecot
    test ! -e /usr/local/bin/certbot-dovecot
done
echo '== unit tests from the unpacked sdist, as an ordinary user'
useradd --create-home builder
cd /home/builder
runuser -u builder -- tar -xzf /out/one/*.tar.gz
cd certbot_dovecot-*
runuser -u builder -- python3 -m pytest -p no:cacheprovider --hypothesis-profile=package tests/unit
"""


def make(_name: str, out: Path, log: IO[str]) -> str:
    """Build and try; sdist and wheel are in ``out`` afterwards.

    :returns: a line of what came out.
    :raises Failed: with what failed; the log has the rest.
    """
    out.mkdir(parents=True)
    source.export(out / "source")
    building = tree.build_tree(MAKER)
    epoch = str(debian.epoch(out / "source" / source.PACKAGING / "debian" / "changelog"))
    for where, umask in (("one", "022"), ("two", "002")):
        tree.run(building, out, log, f"sdist and wheel, {where}", _MAKE, where, umask, epoch)
    made = sorted((out / "one").iterdir())
    for archive in made:
        if not filecmp.cmp(archive, out / "two" / archive.name, shallow=False):
            raise tree.Failed(f"{archive.name} has other bytes when it is made again")
    sdist, wheel = sorted(made, key=lambda archive: archive.suffix != ".gz")
    _check_sdist(sdist)
    _check_wheel(wheel)
    for suite in debian.SUITES:
        tree.run(tree.test_tree(suite), out, log, f"{suite}: pip install, and the unit tests from the sdist", _INSTALL)
    return ", ".join(f"{archive.name} {archive.stat().st_size / 1024:.0f} KiB" for archive in made)


def _check_sdist(path: Path) -> None:
    """It has every file that git has, the manual pages, and nothing else but the metadata."""
    with tarfile.open(path) as tar:
        inside = {member.name.partition("/")[2] for member in tar.getmembers() if member.isfile()}
    wanted = {*source.files(), "man/certbot-dovecot.1", "man/certbot-dovecot.7"} - {".gitignore"}
    more = {name for name in inside - wanted if not name.startswith("certbot_dovecot.egg-info/") and name != "PKG-INFO"}
    if wanted - inside or more:
        raise tree.Failed(f"{path.name} lacks {sorted(wanted - inside)} and has {sorted(more)} more: see MANIFEST.in")


def _check_wheel(path: Path) -> None:
    """It has the modules, the licence, the manual pages, and no test."""
    with zipfile.ZipFile(path) as archive:
        inside = set(archive.namelist())
    wanted = {name for name in source.files() if name.startswith("certbot_dovecot/")}
    data = path.name.partition("-py3-")[0] + ".data/data/share/man"
    wanted |= {f"{data}/man1/certbot-dovecot.1", f"{data}/man7/certbot-dovecot.7"}
    more = {name for name in inside - wanted if ".dist-info/" not in name}
    if wanted - inside or more or not any(name.endswith("/LICENSE") for name in inside):
        raise tree.Failed(f"{path.name} lacks {sorted(wanted - inside)} and has {sorted(more)} more")
