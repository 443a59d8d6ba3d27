"""The lookups that the unit tests judge our planners by, against ``postmap`` and ``doveconf`` here, on random lineages."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from certbot_dovecot.servers.dovecot_conf import V23, V24
from tests.differential.names import ASKED, OLD, World, ask_dovecot, ask_postfix, chance, look_up
from tests.integration import view

WORLDS = 24


@pytest.fixture(autouse=True)
def machine_untouched():
    """These tests write to a directory of their own, without a lab."""


def needs(program):
    if not shutil.which(program):
        if os.environ.get("REQUIRE_LAB") == "1":
            pytest.fail(f"this test needs {program}", pytrace=False)
        pytest.skip(f"this test needs {program}")


def worlds(dialect):
    """Lineages that were installed; in every second world one has other names since, and one is gone."""
    for seed in range(WORLDS):
        world = World(dialect)
        some = chance(seed)
        for who, names in enumerate(some):
            world.install(who, names)
        if seed % 2 and len(world.installed()) > 1:
            world.renew(max(world.installed()), chance(seed + 1000, 1)[0])
            world.undo(min(world.installed()))
        yield world


def test_postfix(tmp_path):
    needs("postmap")
    path = tmp_path / "table"
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    os.utime(tmp_path / "main.cf", (1e9, 1e9))
    for world in worlds(V23):
        path.write_bytes(world.table)
        # Each name, and what Postfix asks for after it.
        keys = [key for name in ASKED for key in (name, name.upper(), name[name.index(".") :])]
        done = subprocess.run(
            ["postmap", "-c", str(tmp_path), "-q", "-", f"regexp:{path}"], input="\n".join(keys) + "\n", capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert not done.stderr
        found = dict(line.split("\t") for line in done.stdout.splitlines())
        assert found == {key: answer for key in keys if (answer := look_up(world.table, key))}
        for name in ASKED:
            mapped = name in found and b"tls_server_sni_maps" in world.master
            assert (found[name].split()[1] if mapped else ask_postfix(world, "nobody.test")) == ask_postfix(world, name)


def test_dovecot(tmp_path):
    needs("doveconf")
    os.chmod(tmp_path, 0o755)
    dialect = V23 if view.dovecot_version() < (2, 4) else V24
    flag, setting = ("lname", "ssl_cert") if dialect is V23 else ("local_name", "ssl_server/cert_file")
    for world in worlds(dialect):
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        os.makedirs(tmp_path / "d")
        for path, data in world.files.items():
            (tmp_path / path[1:]).write_bytes(data)
        for name in ASKED:
            command = ["doveconf", "-c", str(tmp_path / "d/dovecot.conf"), "-f", f"{flag}={name}", "-h", setting]
            said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
            assert said.strip().lstrip("<") == ask_dovecot(world, name), name
    assert ask_dovecot(World(dialect), "nobody.test") == OLD.cert
