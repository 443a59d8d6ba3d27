"""What CAs mail, in every form and order, gives one chain."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, pkcs7, pkcs12
from hypothesis import given, settings
from hypothesis import strategies as st

from certbot_dovecot import bundle as bundles
from certbot_dovecot import mailed
from certbot_dovecot.problems import BundleProblem
from tests.lab import ca
from tests.plays import examples

NOW = datetime.datetime.now(datetime.timezone.utc)
OURS = ca.CA.make("Ours", steps=2, now=NOW)
OTHER = ca.CA.make("Other", now=NOW)
MADE = OURS.leaf(["mail.example.test"])
FORMS = {
    "PEM": mailed.pem,
    "PEM with text": lambda some: b"Dear customer,\n\n" + b"subject=/CN=x\n".join([b"", *(mailed.pem([one]) for one in some)]),
    "PEM with CRLF": lambda some: mailed.pem(some).replace(b"\n", b"\r\n"),
    "PEM, quoted": lambda some: b"".join(b"> " + line for line in mailed.pem(some).splitlines(True)),
    "PEM, old label": lambda some: mailed.pem(some).replace(b" CERTIFICATE", b" X509 CERTIFICATE"),
    "PKCS #7, PEM": lambda some: pkcs7.serialize_certificates(some, Encoding.PEM),
    "PKCS #7, DER": lambda some: pkcs7.serialize_certificates(some, Encoding.DER),
}


def leaf(mails, *spkis):
    return mailed.leaf(mails, set(spkis), NOW, "/c.pem")


def order(some, made=MADE):
    return mailed.order(made.cert, some, NOW, "/bundle.pem")


@pytest.mark.parametrize("form", FORMS)
@given(st.lists(st.sampled_from([MADE.cert, *MADE.chain, OURS.root.cert, OTHER.signer.cert]), min_size=1, unique=True))
@settings(max_examples=examples(20), deadline=None)
def test_every_form_is_read(form, some):
    # PKCS #7 is a set: the order is not kept.
    assert set(mailed.certificates(FORMS[form](some), "/x")) == set(some)


def test_one_certificate_in_der():
    assert mailed.certificates(MADE.der, "/x") == [MADE.cert]


@given(st.data())
@settings(max_examples=examples(60), deadline=None)
def test_whatever_the_order_and_whatever_else_is_there_the_chain_is_the_same(data):
    needed = [*MADE.chain]
    strangers = [OURS.root.cert, MADE.cert, OTHER.root.cert, OTHER.signer.cert, OTHER.leaf(["b.test"]).cert]
    more = data.draw(st.lists(st.sampled_from([*strangers, *needed])))
    sorted_ = order(data.draw(st.permutations([*needed, *more])))
    assert sorted_.leaf == MADE.cert
    assert sorted_.chain == MADE.chain
    assert len(sorted_.chain) == 2
    assert sorted_.root == (OURS.root.cert if OURS.root.cert in more else None)
    assert set(sorted_.left_out) == {*more} - {MADE.cert, OURS.root.cert, *MADE.chain}
    # It is what a renewal accepts.
    combined = [mailed.pem([one]) for one in sorted_.chain]
    made = bundles.make(MADE.key_pem(), mailed.pem([sorted_.leaf]), combined, NOW, bundles.Source("/k", "/c", "/b"))
    assert made.combined == MADE.fullchain_pem


def test_a_leaf_right_below_the_root_has_no_chain():
    small = ca.CA.make("Small", steps=0)
    made = small.leaf(["mail.example.test"])
    sorted_ = order([small.root.cert], made)
    assert (sorted_.chain, sorted_.root) == ((), small.root.cert)


def test_a_self_signed_certificate_has_neither():
    made = ca.self_signed("mail.example.test")
    assert leaf([made.cert]) == made.cert
    sorted_ = order([], made)
    assert (sorted_.chain, sorted_.root) == ((), made.cert)


def test_a_missing_issuer_is_named_with_where_it_is():
    made = OURS.leaf(["mail.example.test"], issuer_at="http://ca.example.org/i2.crt")
    with pytest.raises(BundleProblem, match=r"Ours Intermediate 2, is missing.*it is at http://ca.example.org/i2.crt"):
        order([OURS.root.cert, OTHER.signer.cert, MADE.chain[1]], made)


def test_a_namesake_is_no_issuer():
    with pytest.raises(BundleProblem, match="is missing"):
        order([ca.CA.make("Ours", steps=2).signer.cert])


class TestCrossSigned:
    """The root of ``Ours`` is certified by ``Other`` as well."""

    def test_a_root_that_is_there_ends_the_chain(self):
        crossed = OTHER.cross(OURS.root)
        assert order([*MADE.chain, OURS.root.cert, crossed]).chain == MADE.chain

    def test_of_two_roots_the_one_further_away(self):
        """Whoever knows the nearer one stops there."""
        crossed = OTHER.cross(OURS.root)
        sorted_ = order([*MADE.chain, OURS.root.cert, crossed, OTHER.root.cert])
        assert (sorted_.chain, sorted_.root) == ((*MADE.chain, crossed), OTHER.root.cert)

    def test_without_a_root_the_longest(self):
        crossed = OTHER.cross(OURS.root)
        sorted_ = order([crossed, *MADE.chain])
        assert (sorted_.chain, sorted_.root) == ((*MADE.chain, crossed), None)

    def test_nothing_that_is_expired_if_there_is_another_way(self):
        crossed = OTHER.cross(OURS.root, end=-100)
        sorted_ = order([*MADE.chain, OURS.root.cert, crossed, OTHER.root.cert])
        assert (sorted_.chain, sorted_.left_out) == (MADE.chain, (OTHER.root.cert, crossed))

    def test_of_two_alike_the_one_that_stays_longer(self):
        old, new = OTHER.cross(OURS.root, end=ca.DAY), OTHER.cross(OURS.root, end=2 * ca.DAY)
        assert order([*MADE.chain, old, new]).chain == order([new, old, *MADE.chain]).chain == (*MADE.chain, new)

    def test_two_that_certify_each_other_do_not_go_round_for_ever(self):
        here, there = OTHER.cross(OURS.root), OURS.cross(OTHER.root)
        assert order([*MADE.chain, here, there]).chain == (*MADE.chain, here, there)


def test_an_expired_chain_is_refused():
    old = x509.load_der_x509_certificate(OURS.cross(OURS.signer, end=-100).public_bytes(Encoding.DER))
    with pytest.raises(BundleProblem, match=r"Ours Intermediate 2 is valid from .* only: clients refuse it"):
        order([old, OURS.root.cert])


def test_which_one_is_the_server_s():
    older = OURS.leaf(["mail.example.test"], key=MADE.key, begin=-20 * ca.DAY)
    someone = OURS.leaf(["other.test"], begin=-3600)
    mails = [OURS.root.cert, older.cert, *MADE.chain, MADE.cert, someone.cert]
    assert leaf(mails, bundles.spki_of(MADE.cert)) == leaf(mails[::-1], bundles.spki_of(MADE.cert)) == MADE.cert
    assert leaf(mails) == someone.cert


def test_only_ca_certificates():
    with pytest.raises(BundleProblem, match=r"no server's certificate in it, only a CA certificate \(Ours Root\)"):
        leaf([OURS.root.cert])


def _pfx():
    return pkcs12.serialize_key_and_certificates(
        b"x", MADE.key, MADE.cert, None,
        PrivateFormat.PKCS12.encryption_builder().build(b"secret"),
    )  # fmt: skip


NONE = {
    "nothing": (b"", "there is no certificate in it"),
    "text": (b"<html>Your certificate is ready!</html>", "there is no certificate in it"),
    "request": (b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----", "request, not a certificate"),
    "key": (MADE.key_pem(), "there is a private key in it, and no certificate"),
    "PKCS #12": (_pfx(), r"PKCS #12 file .*openssl pkcs12 -in /x -nodes"),
    "truncated": (MADE.cert_pem[:200], "truncated"),
    "truncated PKCS #7": (pkcs7.serialize_certificates([MADE.cert], Encoding.PEM)[:200], "truncated"),
    "no base64": (b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "cannot be parsed"),
    "no certificate": (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be parsed"),
    "no PKCS #7": (b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n", "openssl pkcs7 -print_certs -in /x"),
    "damaged DER": (MADE.der[:-1], "cannot be parsed"),
    "damaged PKCS #7": (pkcs7.serialize_certificates([MADE.cert], Encoding.DER)[:-1], "openssl pkcs7"),
    "a byte": (b"\x30", "cannot be parsed"),
}


@pytest.mark.parametrize("case", NONE)
def test_what_it_is_instead_is_said(case):
    data, said = NONE[case]
    with pytest.raises(BundleProblem, match=said) as caught:
        mailed.certificates(data, "/x")
    assert str(caught.value).startswith("/x: ")


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_garbage_is_no_certificate_and_no_crash(data):
    for some in (data, b"\x30" + data, b"-----BEGIN PKCS7-----\n" + data + b"-----END PKCS7-----\n"):
        with pytest.raises(BundleProblem):
            mailed.certificates(some, "/x")


def test_a_signed_mail():
    """A block that is not ours has no end of its name."""
    text = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + MADE.fullchain_pem.replace(b"-----B", b"- -----B")
    text = text.replace(b"-----E", b"- -----E") + b"-----BEGIN PGP SIGNATURE-----\nAAAA\n-----END PGP SIGNATURE-----\n"
    assert mailed.certificates(text, "/x") == [MADE.cert, *MADE.chain]
