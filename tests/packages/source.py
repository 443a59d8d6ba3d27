"""The source as a release has it: the files that git knows, as they are on disk now, and nothing else."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGING = "packaging"


def version() -> str:
    """The version of this checkout."""
    found = re.search(r'(?m)^__version__ = "(.+)"$', (CHECKOUT / "certbot_dovecot" / "__init__.py").read_text())
    assert found
    return found.group(1)


def files() -> list[str]:
    """Paths of the files, relative, sorted.

    :raises SystemExit: this is no clone.
    """
    command = ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z", "--cached"]
    done = subprocess.run(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Packages are made from a git clone, for git knows what belongs to the source: {done.stderr.strip()}")
    return sorted(path for path in done.stdout.split("\0") if path and (CHECKOUT / path).exists())


def export(target: Path) -> None:
    """Copy the files into the new directory ``target``."""
    for path in files():
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / path, copy)


def orig(target: Path, epoch: int) -> Path:
    """Write the source tarball for Debian, without our own ``debian`` directory; the same bytes from the same files.

    :param epoch: the time that all members get.
    :returns: its path.
    """
    name = f"python-certbot-dovecot-{version()}"
    path = target / f"python-certbot-dovecot_{version()}.orig.tar.xz"
    with tarfile.open(path, "w:xz", format=tarfile.GNU_FORMAT) as tar:
        for member in files():
            if member.startswith(f"{PACKAGING}/debian/"):
                continue
            source = CHECKOUT / member
            info = tarfile.TarInfo(f"{name}/{member}")
            data = source.read_bytes()
            info.size, info.mtime = len(data), epoch
            info.mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
            tar.addfile(info, io.BytesIO(data))
    return path
