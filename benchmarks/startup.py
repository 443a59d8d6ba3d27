"""How much slower ``certbot plugins`` is with this package than without.

``python -m benchmarks.startup [ROUNDS]`` in an environment that has certbot and this package installed (not in editable mode).
Two directories of links to what site-packages holds, one without this package, take turns; medians of wall and of CPU time.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time

_RUN = "import sys; from certbot.main import main; sys.exit(main(sys.argv[1:]))"


def link(target: str, ours: bool) -> None:
    """Fill a directory with links to everything that is installed, with or without this package."""
    os.mkdir(target)
    site = sysconfig.get_paths()["purelib"]
    for name in os.listdir(site):
        if ours or not name.replace("-", "_").startswith("certbot_dovecot"):
            os.symlink(f"{site}/{name}", f"{target}/{name}")


def once(libraries: str, place: str) -> tuple[float, float, str]:
    """One run: seconds of wall and of CPU time, and what it printed."""
    used, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-S", "-c", _RUN, "plugins"]
    for name in ("config", "work", "logs"):
        command += [f"--{name}-dir", f"{place}/{name}"]
    env = dict(os.environ, PYTHONPATH=libraries, PYTHONWARNINGS="ignore")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd="/")
    wall, now = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, done.stdout


def main(rounds: int = 40) -> int:
    """Measure and print; returns 1 if the difference of the medians is more than 10 ms."""
    with tempfile.TemporaryDirectory() as place:
        found: dict[str, list[tuple[float, float, str]]] = {"without": [], "with": []}
        for name in found:
            link(f"{place}/{name}", name == "with")
            shown = once(f"{place}/{name}", place)[2]
            if ("* dovecot" in shown) != (name == "with"):
                sys.exit(f"The plugin is not where it should be, {name} it certbot shows:\n{shown}")
        for _ in range(rounds):
            for name, runs in found.items():
                runs.append(once(f"{place}/{name}", place))
    wall = {name: statistics.median(run[0] for run in runs) * 1000 for name, runs in found.items()}
    cpu = {name: statistics.median(run[1] for run in runs) * 1000 for name, runs in found.items()}
    print(f"certbot plugins, medians of {rounds} runs in turn, ms")
    for name in found:
        print(f"  {name:8} wall {wall[name]:7.1f}   CPU {cpu[name]:7.1f}")
    more = (wall["with"] - wall["without"], cpu["with"] - cpu["without"])
    print(f"  {'more':8} wall {more[0]:7.1f}   CPU {more[1]:7.1f}   (goal: at most 10)")
    return 1 if more[0] > 10 else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
