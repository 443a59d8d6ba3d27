"""The lab itself, and the probe against what it runs: real Dovecot and Postfix, every protocol."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certbot_dovecot.servers import probe
from certbot_dovecot.servers.contract import Endpoint
from tests.integration import view
from tests.lab import distribution, namespace
from tests.lab.mailhost import FRESH, PORTS

TEN_SSL = "/etc/dovecot/conf.d/10-ssl.conf"
#: Words that a server writes about a client that does not behave.
COMPLAINTS = ("lost connection", "improper command", "SSL_accept", "non-SMTP", "Connection reset", "Error", "Warning", "error:")


def snakeoil():
    with open(distribution.SNAKEOIL[0]) as file:
        return ssl.PEM_cert_to_DER_cert(file.read())


def endpoints(address="127.0.0.1"):
    return [Endpoint("lab", protocol, address, port, implicit) for port, protocol, implicit in PORTS]


def serve(host, made, server="dovecot", stem="other"):
    """Let a server serve a pair on all its ports; it is reloaded by hand."""
    if server == "dovecot":
        paths = made.write("/etc/dovecot/private", stem)
        host.append("/etc/dovecot/local.conf", view.tls(paths.fullchain, paths.key))
        host.run("doveadm", "reload")
    else:
        paths = made.write("/etc/postfix", stem)
        host.append("/etc/postfix/main.cf", f"smtpd_tls_cert_file = {paths.fullchain}\nsmtpd_tls_key_file = {paths.key}\n")
        host.run("postfix", "reload")
    return paths


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_every_port_serves_the_snakeoil_certificate(mailhost, address):
    answers = probe.ask_all(endpoints(address), distribution.HOSTNAME, 5)
    assert {answer.endpoint.port: (answer.leaf, answer.error) for answer in answers} == {
        port: (snakeoil(), "") for port, _, _ in PORTS
    }


def test_a_probe_leaves_no_complaint_in_a_log(mailhost):
    probe.ask_all(endpoints(), distribution.HOSTNAME, 5)
    mailhost.reloads("postfix")
    text = mailhost.log("dovecot") + mailhost.log("postfix")
    assert "submissions/smtpd" in text
    assert "imap-login" in text
    assert [line for line in text.splitlines() if any(word in line for word in COMPLAINTS)] == []


def test_a_probe_costs_milliseconds(mailhost):
    took = []
    for _ in range(5):
        begin = time.monotonic()
        probe.ask_all(endpoints(), distribution.HOSTNAME, 5)
        took.append(time.monotonic() - begin)
    # The best of five: the machine may have other things to do.
    assert min(took) < 0.2


def test_dovecot_may_own_the_submission_port(mailhost):
    mailhost.reset(submission="dovecot")
    answer = mailhost.served(587)
    assert (answer.leaf, answer.error) == (snakeoil(), "")
    assert "starting up for imap" in mailhost.log("dovecot")
    mailhost.stop("dovecot")
    assert mailhost.served(587).error == "connection refused"
    assert mailhost.served(465).leaf == snakeoil()


def test_of_two_algorithms_the_one_that_is_asked_for(mailhost, ca):
    ecdsa = ca.leaf([distribution.HOSTNAME])
    paths = ecdsa.write("/etc/dovecot/private")
    alternative = f"{view.setting('alt_cert')}{paths.fullchain}\n{view.setting('alt_key')}{paths.key}\n"
    mailhost.append("/etc/dovecot/local.conf", alternative)
    mailhost.append("/etc/postfix/main.cf", f"smtpd_tls_eccert_file = {paths.fullchain}\nsmtpd_tls_eckey_file = {paths.key}\n")
    mailhost.run("doveadm", "reload")
    mailhost.run("postfix", "reload")
    wanted = dict.fromkeys(endpoints(), hashlib.sha256(ecdsa.der).hexdigest())
    assert {answer.leaf for answer in probe.wait_until(wanted, None, 30, "ecdsa")} == {ecdsa.der}
    assert {answer.leaf for answer in probe.ask_all(endpoints(), None, 5, "rsa")} == {snakeoil()}


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_waiting_for_a_reload(mailhost, ca, kind):
    made = ca.leaf([distribution.HOSTNAME, "192.0.2.1"], kind=kind)
    for server in ("dovecot", "postfix"):
        serve(mailhost, made, server)
    wanted = dict.fromkeys(endpoints(), hashlib.sha256(made.der).hexdigest())
    answers = probe.wait_until(wanted, distribution.HOSTNAME, 30, kind)
    assert not [(str(one.endpoint), one.error) for one in answers if one.leaf != made.der]
    assert (mailhost.reloads("dovecot"), mailhost.reloads("postfix")) == (1, 1)


def test_what_broken_servers_answer(mailhost, ca):
    made, other = ca.leaf([distribution.HOSTNAME]), ca.leaf([distribution.HOSTNAME])
    for server in ("dovecot", "postfix"):
        paths = serve(mailhost, made, server)
        with open(paths.key, "wb") as file:
            file.write(other.key_pem())
        mailhost.restart(server)
    assert mailhost.served(993).error == "TLS handshake failed: closed the connection"
    assert mailhost.served(587).error == "STARTTLS refused: 454 4.7.0 TLS not available due to local problem"
    assert mailhost.served(465).leaf is None
    mailhost.stop("postfix")
    assert mailhost.served(465).error == "connection refused"


def test_starttls_that_is_switched_off(mailhost):
    mailhost.append("/etc/dovecot/local.conf", "ssl = no\n")
    mailhost.append("/etc/postfix/main.cf", "smtpd_tls_security_level = none\n")
    mailhost.restart("dovecot")
    mailhost.restart("postfix")
    assert mailhost.served(143).error.startswith("STARTTLS refused: a BAD")
    assert mailhost.served(110).error.startswith("STARTTLS refused: -ERR")
    assert mailhost.served(4190).error.startswith("STARTTLS refused: NO")
    assert mailhost.served(25).error.startswith("STARTTLS refused: 502")


def test_a_service_that_hangs_costs_the_seconds_given(mailhost):
    path = "/etc/postfix/master.cf"
    with open(path) as file:
        text = file.read().replace("smtpd_tls_wrappermode=yes", "smtpd_tls_wrappermode=bogus")
    mailhost.write(path, text)
    mailhost.restart("postfix")
    begin = time.monotonic()
    answers = probe.ask_all(endpoints(), None, 1)
    assert time.monotonic() - begin < 1.5
    assert [answer.endpoint.port for answer in answers if answer.leaf is None] == [465]


def test_a_reset_brings_everything_back(mailhost, ca):
    mailhost.reset()
    before = mailhost.snapshot("/etc")
    assert before["/etc/dovecot/private/dovecot.key"].target == distribution.SNAKEOIL[1]
    serve(mailhost, ca.leaf(["a.example"]))
    mailhost.stop("postfix")
    os.unlink("/etc/postfix/master.cf")
    with open("/etc/letsencrypt/rubbish", "w"):
        pass
    mailhost.reset()
    assert mailhost.snapshot("/etc") == before
    assert mailhost.log("dovecot").count("starting up") == 1


def test_a_full_disk_and_a_read_only_one_are_real(mailhost):
    with mailhost.full_disk("/etc/dovecot") as fill:
        fill()
        with pytest.raises(OSError, match="No space left") as caught, open("/etc/dovecot/more", "w") as file:
            file.write("x")
        assert caught.value.errno == errno.ENOSPC
        assert os.path.exists(TEN_SSL)
    with mailhost.read_only("/etc/dovecot"):
        with pytest.raises(OSError, match="Read-only") as caught, open(TEN_SSL, "a"):
            pass
        assert caught.value.errno == errno.EROFS
    with open(TEN_SSL, "a"):
        pass


def test_the_clock_is_set_for_one_program(mailhost):
    assert mailhost.run("date", "+%F", at="2027-01-25 12:00:00").stdout == "2027-01-25\n"
    assert mailhost.run("hostname", "-f").stdout == f"{distribution.HOSTNAME}\n"


def test_nothing_is_left_running(mailhost, lab):
    assert {25, 465, 993} <= namespace.listening()
    mailhost.stop("dovecot")
    mailhost.stop("postfix")
    assert namespace.listening() == {53, 14000, 15000}
    machine = os.stat(f"{lab.machine}/usr").st_dev
    assert [path for path in FRESH if os.stat(path).st_dev == machine] == []
    assert os.stat(f"{lab.machine}/etc/postfix").st_ino != os.stat("/etc/postfix").st_ino


def test_a_lab_that_is_killed_leaves_nothing_running_and_there_may_be_two(mailhost):
    script = "from tests.lab import lab; e = lab.enter(); h = e.__enter__().host; h.reset(); print(h.served(25).error); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as other:
        assert other.stdout.readline() == b"\n"
        there = os.readlink(f"/proc/{other.pid}/ns/net")
        assert len(living_in(there)) > 5
        other.kill()
    deadline = time.monotonic() + 10
    while living_in(there) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert living_in(there) == []
    assert mailhost.served(993).leaf == snakeoil()


def living_in(network):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{name}/ns/net") == network:
                found.append(int(name))
    return found
