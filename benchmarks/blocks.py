"""Our own time in a Dovecot configuration of 1 to 10,000 ``local_name`` blocks, apart from ``doveconf``'s.

``python -m benchmarks.blocks [--tree ROOT] [--rounds N]``, as root; ``--tree`` takes doveconf from a tree of tests.lab.trees.
What an install does: one look, the plan for a further lineage, and the check of what was written, which is the next look.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from certbot_dovecot import commands
from certbot_dovecot.commands import Command, Result
from certbot_dovecot.servers.contract import Claim, Pair
from certbot_dovecot.servers.dovecot import Dovecot
from certbot_dovecot.servers.dovecot_conf import V23, V24

BLOCKS = (1, 100, 1000, 10_000)


class Asked:
    """Runs doveconf, in a tree or not, and counts calls and seconds."""

    def __init__(self, tree: str) -> None:
        self.tree = tree
        self.calls, self.seconds = 0, 0.0

    def __call__(self, command: Command) -> Result:
        argv = [part.removeprefix(self.tree) if self.tree else part for part in command.argv]
        begin = time.perf_counter()
        done = commands.run(Command(("chroot", self.tree, *argv) if self.tree else argv, command.reads))
        self.seconds += time.perf_counter() - begin
        self.calls += 1
        return done


def once(tree: str, place: str, blocks: int) -> tuple[float, float, int]:
    """Our seconds, doveconf's seconds and its calls, of one install's looks and plan."""
    inside = place.removeprefix(tree)
    version = subprocess.run(
        [*(["chroot", tree] if tree else []), "dovecot", "--version"], capture_output=True, text=True, check=True
    ).stdout
    dialect = V24 if version >= "2.4" else V23
    tls = [f"{dialect.cert} = {dialect.mark}{inside}/c.pem", f"{dialect.key} = {dialect.mark}{inside}/k.pem"]
    lines = ["dovecot_config_version = 2.4.0", "dovecot_storage_version = 2.4.0"] if dialect is V24 else []
    lines += ["protocols = imap", "ssl = yes", *tls]
    for number in range(blocks):
        lines += [f"local_name n{number}.test {{", *(f"  {line}" for line in tls), "}"]
    for name, text in (("dovecot.conf", "\n".join(lines) + "\n"), ("c.pem", ""), ("k.pem", "")):
        with open(f"{place}/{name}", "w") as file:
            file.write(text)
    asked = Asked(tree)
    begin = time.perf_counter()
    server = Dovecot(place, asked, ipv6=False)
    server.look()
    store = f"{inside}/store"
    claim = Claim(
        Pair(f"{store}/new/2026.pem", f"{store}/new/2026.key"), ("new.test",),
        owns=lambda path: path.startswith(f"{store}/new/"), another=lambda path: path.startswith(inside),
        covers=lambda path: frozenset({"old.test"}),
    )  # fmt: skip
    made = server.plan(claim)
    os.makedirs(f"{place}/store/new", exist_ok=True)
    for path in (claim.pair.cert, claim.pair.key):
        with open(f"{tree}{path}", "w"):
            pass
    for edit in made.edits:
        server.apply(edit)
    server.check()
    assert any(pair == claim.pair for pair in server.look("new.test").pairs)
    seconds = time.perf_counter() - begin - asked.seconds
    for edit in made.edits:
        server.apply(edit.undo)
    return seconds, asked.seconds, asked.calls


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", default="", help="root of a Debian tree")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    place = tempfile.mkdtemp(prefix="blocks", dir=f"{args.tree}/tmp" if args.tree else None)
    os.chmod(place, 0o755)
    try:
        print(f"{'blocks':>7} {'ours s':>8} {'doveconf s':>11} {'calls':>6} {'ours/doveconf':>14}")
        for blocks in BLOCKS:
            runs = [once(args.tree, place, blocks) for _ in range(args.rounds if blocks < 10_000 else 1)]
            ours, theirs, calls = (statistics.median(column) for column in zip(*runs))
            print(f"{blocks:7} {ours:8.3f} {theirs:11.3f} {calls:6.0f} {ours / theirs:14.2f}", flush=True)
    finally:
        shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
