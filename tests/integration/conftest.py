"""Fixtures of the tests on a real mail host; what they need and what is missing, they say.

Without the packages, or without root, these tests are skipped; with ``REQUIRE_LAB=1`` they fail.
"""

from __future__ import annotations

import contextlib
import os

import pytest

from tests.lab import lab as labs
from tests.lab import names as name_servers
from tests.lab.lab import Unavailable

#: For dynamic updates, in the form of certbot-dns-rfc2136.
CREDENTIALS = "/etc/letsencrypt/rfc2136.ini"
#: What no test may touch on the machine itself.
MACHINE = ("/etc/aliases", "/etc/dovecot", "/etc/letsencrypt", "/etc/postfix", "/var/lib/letsencrypt", "/var/spool/postfix")


@pytest.fixture(scope="session")
def lab():
    """The lab of this test process."""
    with contextlib.ExitStack() as stack:
        try:
            here = stack.enter_context(labs.enter())
        except Unavailable as exc:
            if os.environ.get("REQUIRE_LAB") == "1":
                pytest.fail(str(exc), pytrace=False)
            pytest.skip(str(exc))
        yield here


@pytest.fixture
def mailhost(lab):
    """A mail host as just installed, and running."""
    lab.host.reset()
    return lab.host


@contextlib.contextmanager
def updated_by(mailhost, zones=None):
    """Name servers; the file of credentials is there.

    :param zones: those of the tests if none are given.
    """
    with name_servers.run("knot", zones) as servers:
        mailhost.write(
            CREDENTIALS,
            f"dns_rfc2136_server = {name_servers.PRIMARY}\ndns_rfc2136_name = lab\ndns_rfc2136_secret = {servers.secret}\n"
            "dns_rfc2136_algorithm = HMAC-SHA256\n",
        )
        os.chmod(CREDENTIALS, 0o600)
        yield servers


@pytest.fixture
def names(mailhost):
    """Name servers with the zones of the tests."""
    with updated_by(mailhost) as servers:
        yield servers


@pytest.fixture(scope="session")
def ca(lab):
    """An authority for pairs that certbot did not issue."""
    return lab.ca


@pytest.fixture(autouse=True)
def machine_untouched(lab):
    """Fail a test that got at the machine's own files."""
    before = _look(lab.machine)
    yield
    assert _look(lab.machine) == before


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Show what the servers and certbot logged, when a test fails."""
    report = (yield).get_result()
    host = item.funcargs.get("mailhost") if hasattr(item, "funcargs") else None
    if report.when == "call" and report.failed and host:
        logs = {server: host.log(server) for server in ("dovecot", "postfix")}
        with contextlib.suppress(OSError), open("/var/log/letsencrypt/letsencrypt.log", errors="replace") as file:
            logs["certbot"] = file.read()
        report.sections += [(f"end of the log of {name}", text[-3000:]) for name, text in logs.items() if text]


def _look(machine):
    found = {}
    for top in MACHINE:
        for path in [machine + top, *(os.path.join(d, f) for d, ds, fs in os.walk(machine + top) for f in [*ds, *fs])]:
            with contextlib.suppress(FileNotFoundError):
                was = os.lstat(path)
                found[path] = (was.st_ino, was.st_mode, was.st_uid, was.st_gid, was.st_size, was.st_mtime_ns, was.st_ctime_ns)
    return found
