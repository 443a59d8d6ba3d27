"""The house itself: floors, light imports, contracts."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest
from zope.interface.verify import verifyObject

import certbot_dovecot
from certbot_dovecot import commands
from certbot_dovecot.servers.contract import IMailServer
from certbot_dovecot.servers.dovecot import Dovecot
from certbot_dovecot.servers.postfix import Postfix

ROOT = pathlib.Path(certbot_dovecot.__file__).parent
FLOORS = [
    {"problems", "commands", "files", "bundle", "servers", "dane", "mailed", "request", "progress", "certificates",
     "directories"},
    {"rotation", "store", "state", "transaction", "lineages", "plan", "glance", "ledger", "pairs", "seen", "health",
     "former", "checks", "deploy", "monitoring", "renewals"},
    {"reconcile", "summary", "hook", "jobs", "orphans", "records", "preview", "watch", "publishing", "handover", "standby",
     "rollover", "status", "show", "undo", "leaving", "csr", "install_cert", "surroundings", "doctor",
     "sharing"},
    {"door", "door_key", "installer", "cli"},
]


def imports(path):
    """Modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("certbot_dovecot"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name.split(".")[1] for name in names if name.count("."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert "_internal" not in node.module, path


def test_imports_only_point_downwards():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for other in imports(path):
            if other in floor:
                assert floor[other] <= floor[room], f"{path} imports {other}"


def test_servers_and_dane_do_not_know_each_other():
    for path in (ROOT / "servers").glob("*.py"):
        assert "dane" not in set(imports(path))
    for path in (ROOT / "dane").glob("*.py"):
        assert "servers" not in set(imports(path))


def test_no_file_is_longer_than_500_lines():
    for path in [*ROOT.rglob("*.py"), *(ROOT.parent / "tests").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 500, path


@pytest.mark.parametrize("server", [Dovecot("/etc/dovecot", commands.run), Postfix("/etc/postfix", commands.run)])
def test_both_servers_keep_the_contract(server):
    assert verifyObject(IMailServer, server)


def test_what_certbot_imports_at_every_command_is_light():
    """A plugin is imported by every certbot command."""
    script = (
        "import certbot.main, sys; before = set(sys.modules); import certbot_dovecot.installer;"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= {
        "certbot_dovecot", "certbot_dovecot.installer", "certbot_dovecot.problems",
        "certbot.plugins.common", "certbot.plugins.storage", "certbot.reverter", "certbot.plugins",
    }  # fmt: skip
