"""What ``certbot-dovecot status`` takes on a host with many lineages.

``python -m benchmarks.status [ROUNDS]``, as root, in an environment with certbot and this package: 1, 10 and 100 lineages, each
with a name of its own, on one Dovecot and Postfix in the lab's private namespace.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

from benchmarks.renew import CONFIG, deploy, make
from tests.lab import lab as labs
from tests.lab.lab import Lab


def timed(lab: Lab, *options: str) -> float:
    """Seconds of one ``certbot-dovecot status``.

    :raises Failed: it does not find all well.
    """
    begin = time.perf_counter()
    lab.host.run("certbot-dovecot", "status", *options)
    return time.perf_counter() - begin


def table(lab: Lab, rounds: int) -> Iterator[str]:
    """The lines of the table."""
    lab.host.reset()
    lab.host.write("/etc/dovecot/local.conf", "service config {\n  vsz_limit = 2 G\n}\n")
    lab.host.restart("dovecot")
    lab.host.write(f"{CONFIG}/cli.ini", f"server = {lab.host.acme}\n")
    made = 0
    yield f"{'lineages':>9} {'status s':>9} {'with --all':>11}"
    for count in (1, 10, 100):
        while made < count:
            deploy(make(lab, made))
            made += 1
        some = statistics.median(timed(lab) for _ in range(rounds))
        every = statistics.median(timed(lab, "--all") for _ in range(rounds))
        yield f"{count:9} {some:9.3f} {every:11.3f}"


def main(rounds: int = 5) -> int:
    """Measure and print."""
    with labs.enter() as lab:
        for line in table(lab, rounds):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
