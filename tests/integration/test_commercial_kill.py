"""A SIGKILL at every write of csr and install-cert: nothing half, and the next run finishes it."""

from __future__ import annotations

import json
import os
import stat

import pytest

from tests.integration import view
from tests.integration.test_commercial import NAME, STORE, answer, csr, digest, everywhere, install, mailed
from tests.integration.test_kill import Saved, matching_pairs_are_named


def killed(host, tmp_path, *command):
    """Run it again and again, killed at each rename: what each write to a file ends in."""
    saved, trace = Saved(host, tmp_path), tmp_path / "trace"
    host.run("strace", "-qq", "-o", str(trace), "-e", "trace=renameat", "certbot-dovecot", *command)
    renames = trace.read_text().count("renameat(")
    for number in range(1, renames + 1):
        saved.restore()
        inject = ("-e", f"inject=renameat:signal=SIGKILL:when={number}")
        result = host.run("strace", "-qq", "-o", os.devnull, *inject, "certbot-dovecot", *command, check=False)
        assert result.code in (-9, 137)
        yield number
    assert renames


def test_a_request_that_is_killed_leaves_nothing_half(mailhost, tmp_path):
    points = []
    for _ in killed(mailhost, tmp_path, "csr", NAME):
        points.append(sorted(name for name in os.listdir(STORE) if not name.endswith(".tmp")))
        keys = [name for name in os.listdir(STORE) if ".key" in name]
        assert {stat.S_IMODE(os.stat(f"{STORE}/{name}").st_mode) for name in keys} <= {0o600}
        assert ("there already" in csr(mailhost, NAME).stdout) is ("2026.key" in points[-1])
        assert [name for name in os.listdir(STORE) if name.endswith(".key")] == ["2026.key"]
    # Before the key, and before the request.
    assert points == [[], ["2026.key"]]


@pytest.mark.long
def test_an_install_that_is_killed_is_finished_by_the_next(mailhost, tmp_path):
    csr(mailhost, NAME)
    install(mailhost, *mailed(answer()))
    old = everywhere(mailhost)
    csr(mailhost, NAME, "--new-key")
    made = answer("2026-2")
    options = mailed(made)
    finished = 0
    for number in killed(mailhost, tmp_path, "install-cert", *options):
        matching_pairs_are_named()
        assert set(view.leaves(mailhost).values()) <= {old, digest(made)}, number
        deployed = mailhost.run("certbot-dovecot", "deploy", check=False)
        assert deployed.code == 0 or "an install of this certificate was interrupted" in deployed.stderr, number
        finished += everywhere(mailhost) == digest(made)
        install(mailhost, *options)
        assert everywhere(mailhost) == digest(made), number
        record = json.loads(view.read(f"{STORE}/state.json"))
        assert [record[name] for name in ("installing", "reload", "verify")] == [[], [], []], number
    # From the pair on, deploy has all that it needs.
    assert finished >= 3
