"""``python3 -m tests.packages.release TARGET``: manual pages, sdist and wheel of this checkout, the same bytes every time.

Needs Sphinx and setuptools of the Python that runs it (``tox run -e dist``).  Times are those of ``SOURCE_DATE_EPOCH``, else of
the commit that is checked out.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
#: What Sphinx remembers is read by nobody, and goes where it does not get into an archive.
_PLACES = ("-E", "-d", "build/doctrees")


def make(target: Path) -> list[Path]:
    """Make the manual pages in ``man/``, and sdist and wheel in ``target``; returns their paths."""
    # Not at the top: most of tests.packages runs without.
    from setuptools import build_meta

    os.chdir(CHECKOUT)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or _commit_time())
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch)
    subprocess.run([sys.executable, "-m", "sphinx", "-N", "-q", "-W", *_PLACES, "-b", "man", "docs", "man"], check=True)
    target.mkdir(parents=True, exist_ok=True)
    sdist = target / build_meta.build_sdist(str(target))
    wheel = target / build_meta.build_wheel(str(target))
    _settle_sdist(sdist, epoch)
    _settle_wheel(wheel)
    return [sdist, wheel]


def _settle_sdist(sdist: Path, epoch: int) -> None:
    """Write the archive again, with nothing in it of the machine and the moment that it was made on."""
    packed = io.BytesIO()
    with tarfile.open(sdist) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            data = old.extractfile(member) if member.isfile() else None
            member.mtime, member.uid, member.gid, member.uname, member.gname, member.pax_headers = epoch, 0, 0, "", "", {}
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(member, data)
    with open(sdist, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as compressed:
        compressed.write(packed.getvalue())


def _settle_wheel(wheel: Path) -> None:
    """Likewise: what is left of the machine in it is the umask of who made it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            member.external_attr = 0o100644 << 16
            new.writestr(member, old.read(member))
    wheel.write_bytes(packed.getvalue())


def _commit_time() -> str:
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    for path in make(Path(sys.argv[1]).absolute()):
        print(path)
