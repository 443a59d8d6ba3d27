"""Bad input: one clear sentence (what, where, what to do), exit 1, not one byte changed, no traceback on screen."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certbot_dovecot import jobs, reconcile
from certbot_dovecot.bundle import Source
from certbot_dovecot.commands import run
from certbot_dovecot.problems import LockProblem
from certbot_dovecot.reconcile import Host
from certbot_dovecot.servers.dovecot import Dovecot
from certbot_dovecot.state import Options
from certbot_dovecot.transaction import NoCheckpoint
from tests.integration import view
from tests.lab.ca import CA, DAY

HERE = "/etc/letsencrypt/given"
HOLD = "from certbot_dovecot import files\nwith files.locked({!r}): print(1, flush=True); input()"
TREES = ("/etc/dovecot", "/etc/postfix", HERE, "/etc/letsencrypt/dovecot")

#: name: (the made leaf, what is done to its files, what is said)
CASES = {
    "another key": (lambda ca: dataclasses.replace(ca.leaf(["a.test"]), key=ca.leaf(["b.test"]).key), None, "key"),
    "expired": (lambda ca: ca.leaf(["a.test"], begin=-20 * DAY, end=-DAY), None, "expired on"),
    "not yet valid": (lambda ca: ca.leaf(["a.test"], begin=DAY), None, "is not valid before"),
    "must-staple": (lambda ca: ca.leaf(["a.test"], must_staple=True), None, "OCSP stapling"),
    "a CA": (lambda ca: ca.leaf(["a.test"], ca=True), None, "CA certificate"),
    "a client's": (lambda ca: ca.leaf(["a.test"], server=False), None, "not for TLS servers"),
    "someone else's chain": (
        lambda ca: dataclasses.replace(ca.leaf(["a.test"]), chain=(CA.make("Other").signer.cert,)),
        None,
        "did not issue the server's certificate",
    ),
    "wrong order": (
        lambda ca: dataclasses.replace(ca.leaf(["a.test"]), chain=(ca.root.cert, ca.signer.cert)),
        None,
        "Put the intermediate certificates in order",
    ),
    "garbage certificate": (lambda ca: ca.leaf(["a.test"]), ("cert", b"garbage"), "certificate"),
    "truncated chain": (lambda ca: ca.leaf(["a.test"]), ("chain", b"-----BEGIN CERTIFICATE-----\nMIIB\n"), "truncated"),
    "garbage key": (lambda ca: ca.leaf(["a.test"]), ("key", b"garbage"), "key"),
    "missing chain": (lambda ca: ca.leaf(["a.test"]), ("chain", None), "No such file"),
}


def install(mailhost, paths):
    return mailhost.certbot(
        "install", "--installer", "dovecot", "-d", "a.test",
        "--cert-path", paths.cert, "--key-path", paths.key, "--chain-path", paths.chain, check=False,
    )  # fmt: skip


def refused(mailhost, paths, said):
    """It is refused in words, and nothing has changed."""
    before, served = mailhost.snapshot(*TREES), view.leaves(mailhost)
    result = install(mailhost, paths)
    assert result.code == 1
    assert said in result.stderr + result.stdout
    assert "Traceback" not in result.stderr + result.stdout
    assert mailhost.snapshot(*TREES) == before
    assert view.leaves(mailhost) == served
    assert (mailhost.reloads("dovecot"), mailhost.reloads("postfix")) == (0, 0)


@pytest.fixture
def given(mailhost):
    os.makedirs(HERE)
    return mailhost


@pytest.mark.parametrize("case", CASES)
def test_a_bad_bundle_is_refused(given, ca, case):
    make, damage, said = CASES[case]
    paths = make(ca).write(HERE)
    if damage:
        path = getattr(paths, damage[0])
        os.unlink(path)
        if damage[1] is not None:
            with open(path, "wb") as file:
                file.write(damage[1])
    refused(given, paths, said)


def test_an_encrypted_key_is_refused(given, ca):
    refused(given, ca.leaf(["a.test"]).write(HERE, password=b"secret"), "encrypted")


def test_a_root_at_the_end_of_the_chain_is_fine(given, ca):
    made = ca.leaf(["a.test"])
    paths = made.write(HERE)
    with open(paths.chain, "ab") as file:
        file.write(ca.root.cert.public_bytes(Encoding.PEM))
    assert install(given, paths).code == 0
    assert view.leaf_at(given, 993) == view.leaf_in(paths.cert)


def test_tls_that_is_switched_off_says_what_to_set(given, ca):
    given.append("/etc/dovecot/local.conf", "ssl = no\n")
    given.restart("dovecot")
    result = install(given, ca.leaf(["a.test"]).write(HERE))
    assert result.code == 1
    assert "/etc/dovecot/local.conf:1: TLS is switched off here (ssl = no)" in result.stderr
    assert "Set ssl = yes" in result.stderr


def test_an_unknown_service_is_named_with_those_there_are(given, ca):
    paths = ca.leaf(["a.test"]).write(HERE)
    result = given.certbot(
        "install", "--installer", "dovecot", "-d", "a.test", "--dovecot-postfix-services", "smtps,nonsense",
        "--cert-path", paths.cert, "--key-path", paths.key, "--chain-path", paths.chain, check=False,
    )  # fmt: skip
    assert result.code == 1
    assert "/etc/postfix/master.cf" in result.stderr
    assert "submission" in result.stderr


def test_no_dovecot_here(given, ca):
    result = given.certbot("install", "--installer", "dovecot", "--dovecot-server-root", "/nowhere", "-d", "a.test",
                           "--cert-path", "/x", "--key-path", "/x", check=False)  # fmt: skip
    assert result.code == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("lock", ["/etc/letsencrypt/dovecot.lock", "/etc/dovecot/.certbot.lock"])
def test_a_lock_held_by_another_run(given, ca, lock):
    made = ca.leaf(["a.test"]).write(HERE)
    before = given.snapshot(*TREES)
    source = Source(made.key, made.cert, made.chain)
    servers = (Dovecot("/etc/dovecot", run),)
    host = Host(servers, "/etc/letsencrypt/dovecot", jobs.now, NoCheckpoint(), lambda _: (), patience=0.2)
    # The lock is a process's: another one holds it.
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        holder.stdout.readline()
        with pytest.raises(LockProblem, match=r"still held this lock.*Nothing was changed.*Wait for the other"):
            reconcile.begin(host, jobs.of_files(source, ["a.test"], Options()))
    finally:
        holder.communicate(b"\n", 10)
    assert given.snapshot(*TREES) == before
