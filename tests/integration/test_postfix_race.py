"""Fifty installs and fifty ``postconf -P`` edits of one master.cf at the same time: all of them survive."""

from __future__ import annotations

import subprocess
import sys

import pytest

from certbot_dovecot.servers import master_cf
from tests.integration import view

COUNT = 50
PORTS = [20000 + number for number in range(COUNT)]

OURS = """
import sys
from certbot_dovecot import commands
from certbot_dovecot.problems import Changed
from certbot_dovecot.servers.contract import Claim, Pair
from certbot_dovecot.servers.postfix import Postfix
server = Postfix("/etc/postfix", commands.run, sys.argv[1])
while True:
    try:
        for edit in server.plan(Claim(Pair(f"/c{sys.argv[1]}.pem", f"/k{sys.argv[1]}.key"), ("a.test",))).edits:
            server.apply(edit)
        break
    except Changed:
        pass
"""


@pytest.mark.long
def test_nothing_is_lost(mailhost):
    mailhost.stop("postfix")
    path = "/etc/postfix/master.cf"
    original = view.read(path).decode()
    mailhost.append(path, "".join(f"{port} inet n - y - - smtpd\n  -o syslog_name=postfix/{port}\n" for port in PORTS))
    env = mailhost.environment()
    running = []
    for port in PORTS:
        running.append(subprocess.Popen([sys.executable, "-c", OURS, str(port)], env=env))
        running.append(subprocess.Popen(["postconf", "-P", f"{port}/inet/smtpd_client_restrictions=edit{port}"], env=env))
    assert [process.wait(120) for process in running] == [0] * len(running)
    data = view.read(path)
    assert data.decode().startswith(original)
    entries = {entry.port: entry for entry in master_cf.parse(data, path)}
    for port in PORTS:
        assert entries[port].option("smtpd_tls_cert_file") == f"/c{port}.pem"
        assert entries[port].option("smtpd_tls_key_file") == f"/k{port}.key"
        assert entries[port].option("smtpd_client_restrictions") == f"edit{port}"
    left = set(mailhost.snapshot("/etc/postfix")) - {"/etc/postfix/master.cf.tmp"}
    assert not [name for name in left if ".tmp" in name]
