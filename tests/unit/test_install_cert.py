"""From what a CA mailed to a job: whose key it is, which folder, what is read in place of what."""

from __future__ import annotations

import datetime
import os

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from certbot_dovecot import bundle as bundles
from certbot_dovecot import csr, files, install_cert, jobs, state, store
from certbot_dovecot.install_cert import Given
from certbot_dovecot.problems import BundleProblem, FileProblem, Problem
from certbot_dovecot.request import Subject
from certbot_dovecot.rotation import Wish
from certbot_dovecot.state import Options, State
from tests.lab import ca

NOW = datetime.datetime.now(datetime.timezone.utc)
NAMES = ("mail.example.org", "imap.example.org")


@pytest.fixture(scope="module")
def authority():
    return ca.CA.make("Commercial", steps=2)


@pytest.fixture
def home(tmp_path):
    return str(tmp_path / "letsencrypt")


@pytest.fixture
def files_of(tmp_path):
    """Writes files, and gives their paths."""

    def write(**contents):
        for name, data in contents.items():
            (tmp_path / name).write_bytes(data)
        return [str(tmp_path / name) for name in contents]

    return write


def requested(home, folder="mail.example.org-external", names=NAMES, **options):
    return csr.make(home, folder, names, Subject(), Wish(), Options(**options), NOW)


def prepare(home, cert, *bundle_files, said=None, **given):
    return install_cert.prepare(home, Given(cert, tuple(bundle_files), **given), said or {}, NOW)


def test_the_key_is_found_and_its_folder_is_the_certificate_s(home, authority, files_of):
    made = requested(home)
    requested(home, "a.example.org-external", ("a.example.org",))
    # A CA that sorts the names.
    answer = authority.leaf(NAMES[::-1], key=authority.answer(files.read(made.request)).key)
    cert, bundle = files_of(cert=answer.cert_pem, bundle=authority.root.cert_pem + answer.chain_pem[::1])
    ready = prepare(home, cert, bundle)
    assert ready.job.lineage == "mail.example.org-external"
    assert ready.job.explicit
    assert (ready.job.source.key, ready.job.source.cert, ready.job.source.chain) == (made.key, cert, bundle)
    assert bundles.read(ready.job.source, NOW).combined == answer.fullchain_pem
    assert list(ready.job.history()) == list(store.history(store.folder(jobs.home(home), "", ready.job.lineage)))
    assert ready.notes == (
        "The chain is imap.example.org <- Commercial Intermediate 2 <- Commercial Intermediate 1; the root Commercial Root is "
        "not sent, clients have it.",
    )


def test_the_files_of_the_ca_are_not_needed_later(home, authority, files_of):
    made = requested(home)
    answer = authority.answer(files.read(made.request))
    cert, bundle = files_of(cert=answer.cert_pem, bundle=answer.chain_pem)
    source = prepare(home, cert, bundle).job.source
    os.unlink(cert)
    os.unlink(bundle)
    assert bundles.read(source, NOW).combined == answer.fullchain_pem
    assert source.paths == (made.key,)


@pytest.mark.parametrize("twice", [False, True])
def test_all_in_one_file(home, authority, files_of, twice):
    answer = authority.answer(files.read(requested(home).request))
    (mailed,) = files_of(p7b=pkcs7.serialize_certificates([*answer.chain, answer.cert, authority.root.cert], Encoding.DER))
    source = prepare(home, mailed, *([mailed] if twice else [])).job.source
    assert source.chain == (mailed if twice else None)
    assert bundles.read(source, NOW).combined == answer.fullchain_pem


def test_several_bundles(home, authority, files_of):
    answer = authority.answer(files.read(requested(home).request))
    below, above = answer.chain
    cert, one, two = files_of(
        cert=answer.der, one=above.public_bytes(Encoding.DER), two=below.public_bytes(Encoding.PEM) + answer.cert_pem
    )
    assert bundles.read(prepare(home, cert, one, two).job.source, NOW).combined == answer.fullchain_pem


def test_a_key_from_elsewhere(home, authority, files_of):
    answer = authority.leaf(NAMES)
    cert, bundle, key = files_of(cert=answer.cert_pem, bundle=answer.chain_pem, key=answer.key_pem())
    ready = prepare(home, cert, bundle, key=key)
    assert ready.job.lineage == "mail.example.org-external"
    assert bundles.read(ready.job.source, NOW).key_pem == answer.key_pem()
    assert ready.job.source.paths == ()
    assert "PRIVATE KEY" not in repr(ready)


def test_a_key_and_certificates_in_one_file(home, authority, files_of):
    """As openssl takes a PKCS #12 file apart."""
    answer = authority.leaf(NAMES)
    (path,) = files_of(all=b"Bag Attributes\n" + answer.fullchain_pem + b"Bag Attributes\n" + answer.key_pem())
    made = bundles.read(prepare(home, path, key=path).job.source, NOW)
    assert (made.key_pem, made.combined) == (answer.key_pem(), answer.fullchain_pem)


def test_the_lineage_that_is_named(home, authority, files_of):
    made = requested(home, "two-external")
    answer = authority.answer(files.read(made.request))
    cert, bundle = files_of(cert=answer.cert_pem, bundle=answer.chain_pem)
    assert prepare(home, cert, bundle, lineage="two").job.lineage == "two-external"
    with pytest.raises(BundleProblem, match=r"keys looked at: there is none in the store"):
        prepare(home, cert, bundle, lineage="three")


def test_of_two_copies_of_a_key_the_one_in_use(home, authority, files_of):
    made = requested(home, "b-external")
    place = store.folder(jobs.home(home), "", "a-external")
    files.make_directory(place.path)
    files.write(place.key("2026"), files.read(made.key), 0o600)
    answer = authority.answer(files.read(made.request))
    cert, bundle = files_of(cert=answer.cert_pem, bundle=answer.chain_pem)
    assert prepare(home, cert, bundle).job.lineage == "a-external"
    files.write(store.folder(jobs.home(home), "", "b-external").state, state.dump(State(spki=made.held.spki)))
    assert prepare(home, cert, bundle).job.lineage == "b-external"


def test_a_store_elsewhere(home, authority, files_of, tmp_path):
    made = requested(home, store=str(tmp_path / "store"))
    answer = authority.answer(files.read(made.request))
    cert, bundle = files_of(cert=answer.cert_pem, bundle=answer.chain_pem)
    with pytest.raises(BundleProblem, match="no private key is known"):
        prepare(home, cert, bundle)
    assert prepare(home, cert, bundle, said={"store": str(tmp_path / "store")}).job.source.key == made.key


def test_no_key_names_those_that_were_looked_at(home, authority, files_of):
    made = requested(home)
    answer = authority.leaf(NAMES)
    cert, bundle = files_of(cert=answer.cert_pem, bundle=answer.chain_pem)
    with pytest.raises(BundleProblem) as caught:
        prepare(home, cert, bundle)
    assert str(caught.value) == (
        f"{cert}: no private key is known that belongs to this certificate (mail.example.org); keys looked at: {made.key}. "
        "Nothing was changed. Name the key with --key; or make a key and a request first (certbot-dovecot csr) and send that "
        "to the CA."
    )


def test_a_missing_file_is_named(home, authority, files_of):
    answer = authority.leaf(NAMES)
    cert, bundle, key = files_of(cert=answer.cert_pem, bundle=answer.chain_pem, key=answer.key_pem())
    for given in ({"cert": "/nowhere"}, {"bundles": ("/nowhere",)}, {"key": "/nowhere"}):
        with pytest.raises(FileProblem, match=r"^/nowhere: cannot be read: .*\. Nothing was changed\."):
            install_cert.prepare(home, Given(**{"cert": cert, "bundles": (bundle,), "key": key, **given}), {}, NOW)


def test_a_lineage_of_certbot_s_is_not_ours_to_take(home, authority, files_of):
    os.makedirs(f"{home}/renewal")
    with open(f"{home}/renewal/mail-external.conf", "w") as file:
        file.write("cert = /c\nprivkey = /k\nchain = /ch\nfullchain = /f\n[renewalparams]\n")
    with pytest.raises(Problem, match="this is a lineage of certbot's"):
        prepare(home, "/c", lineage="mail")


def test_a_name_that_the_ca_forgot_is_said(home, authority, files_of):
    made = requested(home)
    key = authority.answer(files.read(made.request)).key
    for names, notes in ((NAMES, ()), (("x.example.org", "Mail.example.org"), (NAMES[1],))):
        answer = authority.leaf(names, key=key)
        cert, bundle = files_of(cert=answer.cert_pem, bundle=answer.chain_pem)
        said = prepare(home, cert, bundle).notes[1:]
        assert said == tuple(f"Not in the certificate, though it was asked for: {name}." for name in notes)
    os.unlink(made.request)
    assert prepare(home, cert, bundle).notes[1:] == ()


def test_what_is_left_out_is_said(home, authority, files_of):
    answer = authority.answer(files.read(requested(home).request))
    stranger = ca.CA.make("Stranger")
    cert, bundle = files_of(cert=answer.cert_pem, bundle=answer.chain_pem + stranger.root.cert_pem)
    assert prepare(home, cert, bundle).notes == (
        "The chain is mail.example.org <- Commercial Intermediate 2 <- Commercial Intermediate 1; clients must know Commercial "
        "Root.",
        "Left out, since it is not in the chain: Stranger Root.",
    )
