"""A certificate from a commercial CA: csr, the CA's answer as CAs mail it, install-cert; and the year after."""

from __future__ import annotations

import dataclasses
import json
import os
import stat

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, pkcs7, pkcs12

from tests.integration import view
from tests.integration.test_failure import refuse_reloads
from tests.integration.test_renew import CONFIGURATIONS, NEW_YEAR
from tests.lab.ca import CA, DAY

NAME = "mail.example.test"
NAMES = (NAME, "imap.example.test")
HOME = "/etc/letsencrypt/dovecot"
STORE = f"{HOME}/{NAME}-external"
MAIL = "/etc/letsencrypt/from-the-ca"
TREES = (*CONFIGURATIONS, HOME)
AUTHORITY = CA.make("Commercial", steps=2)


def csr(host, *args, at=None, check=True):
    return host.run("certbot-dovecot", "csr", *args, at=at, check=check)


def install(host, *args, at=None, check=True):
    return host.run("certbot-dovecot", "install-cert", *args, at=at, check=check)


def answer(stem="2026", **how):
    """What the CA makes of a request."""
    return AUTHORITY.answer(view.read(f"{STORE}/{stem}.csr"), **how)


def mail(**contents):
    """Files from the CA; the options that name them."""
    os.makedirs(MAIL, exist_ok=True)
    for name, data in contents.items():
        with open(f"{MAIL}/{name}", "wb") as file:
            file.write(data)
    return tuple(word for name in contents for word in (f"--{'cert' if name == 'cert' else 'ca-bundle'}", f"{MAIL}/{name}"))


def mailed(made):
    """A bundle as they come: the root first, the wrong way up, with one that does not belong to it."""
    strange = CA.make("Stranger").root.cert
    some = [AUTHORITY.root.cert, *made.chain[::-1], strange, made.cert]
    return mail(cert=made.cert_pem, bundle=b"".join(one.public_bytes(Encoding.PEM) for one in some))


def digest(made):
    return view.bundles.digest_of(made.cert)


def everywhere(host):
    """The one leaf that every port but 25 serves, at both addresses."""
    served = {*view.leaves(host).values(), *view.leaves(host, address="::1").values()}
    assert len(served) == 1
    return served.pop()


def test_the_first_year_and_the_next(mailhost):
    asked = csr(mailhost, *NAMES, "--country", "DE", "--organization", "Example GmbH")
    assert os.listdir(HOME) == [f"{NAME}-external"]
    assert sorted(os.listdir(STORE)) == ["2026.csr", "2026.key"]
    assert stat.S_IMODE(os.stat(f"{STORE}/2026.key").st_mode) == 0o600
    assert mailhost.reloads("dovecot") == 0
    made = answer()
    assert view.bundles.kind_of(made.cert) == ("ecdsa", "secp256r1")
    spki = view.bundles.spki_of(made.cert)
    for said in (f"{STORE}/2026.key", f"{STORE}/2026.csr", f"3 1 1 {spki}", "install-cert --cert FILE --ca-bundle FILE"):
        assert f"{said}\n" in asked.stdout
    # A second time, it is the same key.
    before = mailhost.snapshot(HOME)
    assert "there already: the key of 2026 stays" in csr(
        mailhost, *NAMES, "--country", "DE", "--organization", "Example GmbH"
    ).stdout  # fmt: skip
    assert mailhost.snapshot(HOME) == before

    result = install(mailhost, *mailed(made))
    assert everywhere(mailhost) == digest(made)
    assert view.read(f"{STORE}/2026.pem") == made.fullchain_pem
    assert sorted(os.listdir(STORE)) == [
        "2026.csr", "2026.key", "2026.pem", "former.json", "state.json", "tlsa.json", "tlsa.zone",
    ]  # fmt: skip
    owners = {line.split()[0] for line in view.read(f"{STORE}/tlsa.zone").decode().splitlines() if spki in line}
    assert owners == {f"_{port}._tcp.{name}." for port in view.tls_ports() for name in NAMES}
    assert f"TLSA data:                 3 1 1 {spki}\n" in result.stdout
    assert (
        f"The chain is {NAME} <- Commercial Intermediate 2 <- Commercial Intermediate 1; the root Commercial Root is not sent, "
        "clients have it.\nLeft out, since it is not in the chain: Stranger Root.\n"
    ) in result.stdout
    assert json.loads(view.read(f"{STORE}/state.json"))["years"] == {spki: 2026}

    # The same certificate again, and a renewal of it, with the same key.
    before = mailhost.snapshot(*TREES)
    install(mailhost, *mailed(made))
    assert view.changed(before, mailhost.snapshot(*TREES)) <= {f"{STORE}/state.json"}
    assert (mailhost.reloads("dovecot"), mailhost.reloads("postfix")) == (1, 1)
    renewed = answer()
    install(mailhost, *mailed(renewed))
    assert everywhere(mailhost) == digest(renewed)
    assert view.changed(before, mailhost.snapshot(*TREES)) == {f"{STORE}/2026.pem", f"{STORE}/state.json"}

    # The next year's key is announced, and served once its certificate is there.
    before = mailhost.snapshot(*CONFIGURATIONS)
    asked = csr(mailhost, *NAMES, at=NEW_YEAR)
    later = answer("2027")
    following = view.bundles.spki_of(later.cert)
    assert following != spki
    assert f"  now:   3 1 1 {spki}\n  next:  3 1 1 {following}\n" in asked.stdout
    assert everywhere(mailhost) == digest(renewed)
    assert mailhost.snapshot(*CONFIGURATIONS) == before
    result = install(mailhost, *mailed(later), at=NEW_YEAR)
    assert everywhere(mailhost) == digest(later)
    assert f"{STORE}/2027.key" in view.read("/etc/dovecot/conf.d/10-ssl.conf").decode()
    assert f"={STORE}/2027.pem" in view.read("/etc/postfix/master.cf").decode()
    assert json.loads(view.read(f"{STORE}/state.json"))["years"] == {spki: 2026, following: 2027}
    assert "The private key is new. If you publish TLSA records" in result.stdout
    # To go on with a key is possible in any year.
    assert f"{STORE}/2027.key\n" in csr(mailhost, *NAMES, "--reuse-key", at="2028-02-01 12:00:00").stdout
    assert not os.path.exists(f"{STORE}/2028.key")


def test_pkcs7_and_der_and_a_key_that_waited_over_the_new_year(mailhost):
    csr(mailhost, NAME, "--key-type", "rsa")
    made = answer()
    assert view.bundles.kind_of(made.cert) == ("rsa", "2048")
    p7b = pkcs7.serialize_certificates([AUTHORITY.root.cert, *made.chain, made.cert], Encoding.DER)
    install(mailhost, *mail(cert=made.der, bundle=p7b), at=NEW_YEAR)
    assert {mailhost.served(port, algorithm="rsa").digest for port in (465, 587, 993)} == {digest(made)}
    assert json.loads(view.read(f"{STORE}/state.json"))["years"] == {view.bundles.spki_of(made.cert): 2026}


def test_a_dry_run_shows_what_an_install_does(mailhost):
    csr(mailhost, NAME)
    options = mailed(answer())
    before = mailhost.snapshot(*TREES)
    shown = install(mailhost, *options, "--dry-run", check=False)
    assert shown.code == 2
    assert f"+{view.setting('cert')}{STORE}/2026.pem\n" in shown.stdout
    assert f"Would write:   {STORE}/2026.pem\nWould reload:  Dovecot\nWould reload:  Postfix\n" in shown.stdout
    assert "Left out, since it is not in the chain: Stranger Root.\n" in shown.stdout
    assert mailhost.snapshot(*TREES) == before
    install(mailhost, *options)
    again = install(mailhost, *options, "--dry-run", check=False)
    assert (again.code, again.stdout.splitlines()[0]) == (0, "Nothing to do.")


def test_a_host_without_certbot_s_directory(mailhost):
    """Whose certificates all come from elsewhere; and a key that the admin has made."""
    made = AUTHORITY.leaf([NAME])
    cert, _ = mail(cert=made.fullchain_pem), mail(key=made.key_pem())
    where = ("--config-dir", "/etc/dovecot/ours/le", "--lineage", "shop")
    install(mailhost, *cert, "--key", f"{MAIL}/key", *where)
    assert everywhere(mailhost) == digest(made)
    place = "/etc/dovecot/ours/le/dovecot/shop-external"
    assert view.read(f"{place}/2026.key") == made.key_pem()
    assert stat.S_IMODE(os.stat(f"{place}/2026.key").st_mode) == 0o600
    # Nobody needs the admin's files any longer.
    for name in os.listdir(MAIL):
        os.unlink(f"{MAIL}/{name}")
    deployed = mailhost.run("certbot-dovecot", "deploy", "--config-dir", "/etc/dovecot/ours/le")
    assert (deployed.stdout, deployed.stderr) == ("", "")


def test_what_else_runs_on_the_host_does_not_mind(mailhost):
    """A key that waits for its certificate is nobody's business; one that is installed is kept true by deploy."""
    csr(mailhost, *NAMES)
    for verb in ("tlsa", "deploy"):
        assert mailhost.run("certbot-dovecot", verb).stderr == ""
    mailhost.certbot("renew")
    made = answer()
    install(mailhost, *mailed(made))
    assert f"3 1 1 {view.bundles.spki_of(made.cert)}" in mailhost.run("certbot-dovecot", "tlsa").stdout
    before = mailhost.snapshot(*CONFIGURATIONS)
    mailhost.append("/etc/dovecot/local.conf", "# a comment of the admin's\n")
    result = mailhost.run("certbot-dovecot", "deploy")
    assert (result.stdout, result.stderr) == ("", "")
    assert view.changed(before, mailhost.snapshot(*CONFIGURATIONS)) == {"/etc/dovecot/local.conf"}


def test_a_server_that_is_down_is_told_and_proven_later(mailhost):
    csr(mailhost, NAME)
    made = answer()
    mailhost.stop("postfix")
    result = install(mailhost, *mailed(made), check=False)
    assert result.code == 1
    assert "Postfix does not run, and did not before" in result.stderr
    assert f"then prove it: certbot-dovecot deploy {NAME}-external." in result.stderr
    assert view.leaf_at(mailhost, 993) == digest(made)
    assert "_465." not in view.read(f"{STORE}/tlsa.zone").decode()
    mailhost.start("postfix")
    mailhost.run("certbot-dovecot", "deploy", f"{NAME}-external")
    assert everywhere(mailhost) == digest(made)
    assert "_465." in view.read(f"{STORE}/tlsa.zone").decode()


@pytest.mark.parametrize("installed", [False, True], ids=["first", "renewal"])
def test_what_is_not_served_is_taken_back_to_the_byte(mailhost, installed):
    csr(mailhost, NAME)
    if installed:
        install(mailhost, *mailed(answer()))
        csr(mailhost, NAME, "--new-key")
    options = mailed(answer("2026-2" if installed else "2026"))
    refuse_reloads(mailhost)
    before, served = mailhost.snapshot(*TREES), view.leaves(mailhost)
    result = install(mailhost, *options, check=False)
    assert result.code == 1
    assert "not every endpoint served the new certificate: Dovecot " in result.stderr
    assert "The files are as they were before" in result.stderr
    assert mailhost.snapshot(*TREES) == before
    assert view.leaves(mailhost) == served


def pfx():
    made = AUTHORITY.leaf([NAME])
    lock = PrivateFormat.PKCS12.encryption_builder().build(b"secret")
    return pkcs12.serialize_key_and_certificates(b"x", made.key, made.cert, None, lock)


def chained(made, chain):
    return dataclasses.replace(made, chain=tuple(chain))


#: what the CA sends instead of its answer, and what is said; of every one a bundle comes, too.
BAD = {
    "expired": (lambda: answer(begin=-20 * DAY, end=-DAY), "the certificate expired on"),
    "not yet valid": (lambda: answer(begin=DAY), "is not valid before"),
    "must-staple": (lambda: answer(must_staple=True), "OCSP stapling (must-staple)"),
    "a client's": (lambda: answer(server=False), "not for TLS servers"),
    "a CA": (lambda: answer(ca=True), "there is no server's certificate in it, only a CA certificate"),
    "another key": (lambda: AUTHORITY.leaf([NAME]), f"keys looked at: {STORE}/2026.key."),
    "no issuer": (
        lambda: chained(made := answer(issuer_at="http://ca.example.org/i.crt"), made.chain[1:]),
        "the certificate of its issuer, Commercial Intermediate 2, is missing, and clients could not follow the chain. "
        "Nothing was changed. Give the CA's bundle with --ca-bundle. The certificate says that it is at http://ca.example.org/i.crt.",
    ),
    "someone else's chain": (lambda: chained(answer(), CA.make("Commercial", 2).leaf(["a.test"]).chain), "is missing"),
    "an expired chain": (
        lambda: chained(made := answer(), [AUTHORITY.cross(AUTHORITY.signer, end=-DAY), *made.chain[1:]]),
        "the CA certificate Commercial Intermediate 2 is valid from",
    ),
    "nothing": (lambda: b"", "there is no certificate in it"),
    "PKCS #12": (pfx, f"openssl pkcs12 -in {MAIL}/cert -nodes"),
    "truncated": (lambda: answer().cert_pem[:300], "truncated"),
    "garbage": (lambda: b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n", "PKCS #7 file cannot be read"),
    "the request": (lambda: view.read(f"{STORE}/2026.csr"), "a certificate request, not a certificate"),
}


def test_bad_input_is_refused_and_nothing_changes(mailhost):
    csr(mailhost, NAME)
    before, served = mailhost.snapshot(*TREES), view.leaves(mailhost)
    for case, (make, said) in BAD.items():
        made = make()
        options = mail(cert=made) if isinstance(made, bytes) else mail(cert=made.cert_pem, bundle=made.chain_pem)
        result = install(mailhost, *options, check=False)
        assert result.code == 1, case
        assert said in result.stderr, case
        assert result.stderr.startswith(f"certbot-dovecot: {MAIL}/"), case
        assert result.stderr.count("\n") == 1, case
    options = mailed(answer())
    lock = AUTHORITY.leaf([NAME]).key_pem(b"secret")
    mail(key=lock)
    for more, said in (
        (("--key", "/nowhere"), "/nowhere: cannot be read: No such file or directory"),
        (("--key", f"{MAIL}/key"), f"{MAIL}/key: the private key is encrypted"),
        (("--key", "/etc/dovecot/private/dovecot.key"), f"this private key does not belong to the certificate in {MAIL}/cert"),
        (("--ca-bundle", "/nowhere"), "/nowhere: cannot be read: No such file or directory"),
        (("--lineage", "other"), "keys looked at: there is none in the store"),
        (("--lineage", "a/b"), "a/b: this is not a name for a lineage"),
        (("--server-root", "/nowhere"), "/nowhere"),
        (("--postfix-services", "nonsense"), "nonsense"),
    ):
        result = install(mailhost, *options, *more, check=False)
        assert result.code == 1, more
        assert said in result.stderr
        assert result.stderr.count("\n") == 1, more
    assert mailhost.snapshot(*TREES) == before
    assert view.leaves(mailhost) == served
    assert (mailhost.reloads("dovecot"), mailhost.reloads("postfix")) == (0, 0)


def test_bad_requests_are_refused_and_nothing_is_made(mailhost):
    for args, said in (
        (("mail",), "mail: a host name needs at least two labels"),
        (("https://mail.example.org",), "this is a URL, not a host name"),
        (("b\u00fccher.example.org",), "its ASCII form"),
        ((NAME, "--country", "Germany"), "--country"),
        ((NAME, "--organization", "x" * 65), "--organization can have 64"),
        ((NAME, "--lineage", "../x"), "this is not a name for a lineage"),
        ((NAME, "--config-dir", "/proc/nowhere"), "/proc/nowhere: cannot be made"),
    ):
        result = csr(mailhost, *args, check=False)
        assert result.code == 1, args
        assert said in result.stderr
        assert result.stderr.startswith("certbot-dovecot: ")
        assert result.stderr.count("\n") == 1, args
    assert not os.path.exists(HOME)
    csr(mailhost, NAME)
    mailhost.write(f"{STORE}/state.json", "{")
    result = csr(mailhost, NAME, check=False)
    assert (result.code, "this record is damaged" in result.stderr) == (1, True)
    with mailhost.read_only(HOME):
        os_error = csr(mailhost, "other.example.test", check=False)
    assert (os_error.code, "Read-only file system" in os_error.stderr) == (1, True)


def test_a_full_disk_leaves_no_half_key(mailhost):
    os.makedirs(HOME)
    with mailhost.full_disk(HOME) as fill:
        fill()
        result = csr(mailhost, NAME, check=False)
        assert (result.code, "No space left on device" in result.stderr) == (1, True)
        assert [path for path in mailhost.snapshot(HOME) if path.endswith((".key", ".csr", ".tmp"))] == []


def test_wrong_usage(mailhost):
    for args in (
        ("csr",),
        ("csr", NAME, "--key-type", "dsa"),
        ("csr", NAME, "--elliptic-curve", "secp256k1"),
        ("csr", NAME, "--rsa-key-size", "1024"),
        ("csr", NAME, "--rsa-key-size", "much"),
        ("csr", NAME, "--key-type", "rsa", "--elliptic-curve", "secp384r1"),
        ("csr", NAME, "--key-type", "ecdsa", "--rsa-key-size", "4096"),
        ("csr", NAME, "--new-key", "--reuse-key"),
        ("install-cert",),
        ("install-cert", "--ca-bundle", "x"),
        ("install-cert", "--cert"),
    ):
        result = mailhost.run("certbot-dovecot", *args, check=False)
        assert result.code == 64, args
        assert f"usage: certbot-dovecot {args[0]}" in result.stderr
    assert not os.path.exists(HOME)
