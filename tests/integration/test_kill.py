"""A SIGKILL at every point of an install, a renewal, a new year's key, and a switch to the lineage that stands by.

The points are enumerated, not picked: the run is traced once, and every system call of it that makes a change or starts a
command (each write to a file ends in a rename; each reload is a command) is a point.  Then the run is repeated from the same
bytes, once for each point, and killed as it enters that call: so before the one change and after the other.  Afterwards

* every configuration names a key and a certificate that match,
* every port serves a certificate, the old one or the new one,
* the next ``certbot renew`` ends in the right state: the new one everywhere and nothing left open; or, if the kill came before
  the first write of an install, nothing changed.
"""

from __future__ import annotations

import collections
import json
import os
import re
import shutil

import pytest

from certbot_dovecot import bundle as bundles
from certbot_dovecot import commands
from certbot_dovecot.servers.dovecot import Dovecot
from certbot_dovecot.servers.postfix import Postfix
from tests.integration import view
from tests.integration.test_install import INSTALL, NAME, STORE

#: What makes a change, or starts a command.  Before an fsync the disk is as it is before the call of these that comes next.
CALLS = ("rename", "renameat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "vfork", "clone", "clone3")
TREES = ("/etc/dovecot", "/etc/postfix", "/etc/letsencrypt", "/var/lib/letsencrypt")
SHARDS = 4
#: New, and the certificates of 90 days from the CA, whose clock is right, are not due yet.
NEW_YEAR = "2027-01-02 12:00:00"

#: name, what comes before, the command, its clock
SCENARIOS = {
    "install": ((), ("install", "--installer", "dovecot", "--cert-name", NAME), None),
    "renewal": ((INSTALL,), ("renew", "-q"), None),
    "new year": ((INSTALL,), ("renew", "-q"), NEW_YEAR),
    "switch": ((INSTALL,), ("renew", "-q"), NEW_YEAR),
}


def strace(host, command, at, out, *options):
    """Run certbot under strace, its main process only, killed or not."""
    return host.certbot(*command, at=at, check=False, under=("strace", "-qq", "-o", out, *options))


def points(trace):
    """(system call, its number) of each traced call, from the first that concerns us."""
    counts = collections.Counter()
    found, begun = [], False
    for line in trace.splitlines():
        match = re.match(r"(\w+)\(", line)
        if not match:
            continue
        counts[match.group(1)] += 1
        begun = begun or "/etc/letsencrypt/dovecot" in line
        if begun:
            found.append((match.group(1), counts[match.group(1)]))
    return found


class Saved:
    """The bytes of a host before the run, to start each time from."""

    def __init__(self, host, tmp_path):
        self.host = host
        self.copy = tmp_path / "saved"
        for tree in TREES:
            os.makedirs(f"{self.copy}{tree}")
            host.run("cp", "-a", f"{tree}/.", f"{self.copy}{tree}")

    def restore(self):
        for tree in TREES:
            for entry in os.scandir(tree):
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
            self.host.run("cp", "-a", f"{self.copy}{tree}/.", tree)
        # A kill of certbot leaves the servers alone: a reload brings them back to these bytes.
        self.host.run("doveadm", "reload")
        self.host.run("postfix", "reload")


def matching_pairs_are_named():
    for server in (Dovecot("/etc/dovecot", commands.run), Postfix("/etc/postfix", commands.run)):
        for served in server.look().served:
            source = bundles.Source(served.pair.key, served.pair.cert)
            leaf = bundles.leaf_of(view.read(source.cert), source.cert)
            bundles._check_key(view.read(source.key), leaf, source)


@pytest.mark.timeout(600)
# One kill of four in ``make test``.
@pytest.mark.parametrize("shard", [0, *(pytest.param(one, marks=pytest.mark.long) for one in range(1, SHARDS))])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_anywhere(mailhost, tmp_path, scenario, shard):
    before, command, at = SCENARIOS[scenario]
    if scenario == "install":
        mailhost.certbot("certonly", *INSTALL)
    for earlier in before:
        mailhost.certbot(*earlier)
    old = set(view.leaves(mailhost).values())
    name = NAME
    if scenario == "switch":
        mailhost.run("certbot-dovecot", "standby", NAME)
        name = f"{NAME}-standby"
    elif scenario != "install":
        # Renewed while the servers could not be told: what the killed run does is ours alone, and fast.
        conf = "/etc/dovecot/dovecot.conf"
        was = view.read(conf).decode()
        mailhost.append(conf, "protocol imap {\n")
        mailhost.certbot("renew", "--force-renewal", at=at, check=False)
        mailhost.write(conf, was)
    new = view.live_leaf(name)
    configuration = mailhost.snapshot("/etc/dovecot", "/etc/postfix")
    saved = Saved(mailhost, tmp_path)
    trace = tmp_path / "trace"
    assert strace(mailhost, command, at, str(trace), "-y", "-e", f"trace={','.join(CALLS)}").code == 0
    assert set(view.leaves(mailhost).values()) == {new}
    # Threads that ask the DNS are as many as there happen to be.
    todo = [one for one in points(trace.read_text()) if scenario != "switch" or one[0] != "clone3"]
    assert len(todo) > 20
    for call, number in todo[shard::SHARDS]:
        saved.restore()
        result = strace(mailhost, command, at, os.devnull, "-e", f"inject={call}:signal=SIGKILL:when={number}")
        where = f"{scenario}: killed at {call} number {number}"
        # faketime is its parent under another clock, and says it in words.
        assert result.code in (-9, 137) or "Caught Killed" in result.stderr, where
        matching_pairs_are_named()
        assert set(view.leaves(mailhost).values()) <= old | {new}, where
        assert mailhost.certbot("renew", "-q", at=at, check=False).code == 0, where
        untouched = scenario == "install" and not os.path.exists(f"{STORE}/state.json")
        assert set(view.leaves(mailhost).values()) == (old if untouched else {new}), where
        if untouched:
            # The file of a lock that died with its holder is all that is left.
            left = view.changed(configuration, mailhost.snapshot("/etc/dovecot", "/etc/postfix"))
            assert {os.path.basename(path) for path in left} <= {".certbot.lock"}, where
        else:
            record = json.loads(view.read(f"/etc/letsencrypt/dovecot/{name}/state.json"))
            assert [record[name] for name in ("installing", "reload", "verify")] == [[], [], []], where
            assert record["leaf"] == new, where
        if scenario == "switch":
            ledger = json.loads(view.read(f"{STORE}/dane.json"))
            assert (ledger["turning"], [turn[1] for turn in ledger["turns"]]) == ("", [name]), where
