"""``python3 -m tests.packages [bookworm|trixie|dist|fedora ...]``, as root: build and try each package; 1 if anything fails.

Two at a time; what they print goes to ``build/packages/NAME.log``, and of one that failed, its end onto the screen.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.lab import packages
from tests.packages import debian, dist, fedora, source, tree

#: Where everything goes, git does not look there.
OUT = source.CHECKOUT / "build" / "packages"
#: What the machine itself must have, and is given: package and program.
NEEDED = {"git": "git", "iproute2": "ip", "mmdebstrap": "mmdebstrap"}
#: Lines of a log that are shown when its job fails.
SHOWN = 60


def _job(name: str) -> tuple[float, str]:
    """Do one job.

    :returns: seconds, and what came out.
    :raises Failed: it fails.
    """
    start = time.monotonic()
    out = OUT / name
    shutil.rmtree(out, ignore_errors=True)
    with open(_log(name), "w") as log:
        made = JOBS[name](name, out, log)
    return time.monotonic() - start, made


def _log(name: str) -> Path:
    return OUT / f"{name}.log"


#: In the order of their start: the long ones first.
JOBS = {**dict.fromkeys(debian.SUITES, debian.make), "dist": dist.make, "fedora": fedora.make}


def main(names: list[str]) -> int:
    """Do the jobs; returns the exit code."""
    lacking = packages.missing(NEEDED)
    if lacking:
        packages.install(lacking)
    OUT.mkdir(parents=True, exist_ok=True)
    failed = 0
    with ThreadPoolExecutor(2) as pool:
        jobs = {pool.submit(_job, name): name for name in names}
        for job in as_completed(jobs):
            name = jobs[job]
            try:
                seconds, made = job.result()
            except (tree.Failed, SystemExit) as failure:
                failed += 1
                end = "".join(_log(name).read_text(errors="replace").splitlines(keepends=True)[-SHOWN:])
                print(f"{end}\n{name}: FAILED: {failure}\nAll of it is in {_log(name)}", flush=True)
            else:
                print(f"{name}: good, {seconds:.0f} s: {made}", flush=True)
    print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python3 -m tests.packages", description="Build and try each package.")
    parser.add_argument("name", nargs="*", choices=[[], *JOBS], default=[], help="default: all")
    sys.exit(main(parser.parse_args().name or list(JOBS)))
