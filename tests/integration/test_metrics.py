"""The metrics of ``status --prometheus`` as Prometheus' own parser reads them, whatever the names in them are (rule R12)."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

import pytest

from certbot_dovecot import health, show
from certbot_dovecot.monitoring.model import Deployed, Status
from certbot_dovecot.servers.contract import Endpoint
from tests.integration.test_outside import once
from tests.unit import hostile
from tests.unit.test_health import NOW, asked, leaf
from tests.unit.test_outside import read_sample


@pytest.fixture(autouse=True)
def machine_untouched():
    """These tests need no lab."""


def test_promtool_reads_every_label(tmp_path):
    if not shutil.which("promtool"):
        if os.environ.get("REQUIRE_LAB") == "1":
            pytest.fail("the test of the metrics needs the package prometheus", pytrace=False)
        pytest.skip("the test of the metrics needs the package prometheus")
    names = once(hostile.TEXT)
    lineages = tuple(Deployed(name, servers=("Dovecot",), stem="2026", year=2026, leaf=leaf()) for name in names)
    endpoints = tuple(
        replace(asked(Endpoint("Dovecot", "imap", name, 993, True)), lineage=name, sni=name) for name in names
    )
    seen = Status(NOW, lineages, endpoints)
    text = show.prometheus(seen, health.findings(seen))
    # Two names may be shown alike; a sample is there once.
    lines = list(dict.fromkeys(text.split("\n")))
    done = subprocess.run(
        ["promtool", "check", "metrics"], input="\n".join([*lines, ""]).encode(), capture_output=True, check=False
    )
    # 3 is for what it would call otherwise.
    assert done.returncode in (0, 3), done.stderr.decode()
    read = {read_sample(line)["lineage"] for line in lines if line.startswith("certbot_dovecot_key_year")}
    plain = {name for name in names if not (hostile.HIDDEN.search(name) or set(name) & set("\n\t"))}
    assert len(plain) > 20
    assert plain <= read
