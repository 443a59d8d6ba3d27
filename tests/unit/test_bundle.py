"""A bundle is checked before any server hears of it: each thing that can be wrong, and its sentence."""

from __future__ import annotations

import datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from certbot_dovecot import bundle as bundles
from certbot_dovecot.bundle import Source
from certbot_dovecot.problems import BundleProblem, FileProblem
from tests.lab import ca

NOW = datetime.datetime.now(datetime.timezone.utc)
SOURCE = Source("/k.key", "/c.pem", "/chain.pem")


@pytest.fixture(scope="module")
def authority():
    return ca.CA.make()


def make(made, **other):
    parts = {"key": made.key_pem(), "leaf": made.cert_pem, "chain": pems(made.chain), **other}
    return bundles.make(parts["key"], parts["leaf"], parts["chain"], NOW, SOURCE)


def pems(certificates):
    return [certificate.public_bytes(Encoding.PEM) for certificate in certificates]


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_a_good_bundle(authority, kind):
    made = authority.leaf(["mail.example.test", "192.0.2.1", "2001:db8::1"], kind=kind)
    bundle = make(made)
    assert bundle.names == ("mail.example.test", "192.0.2.1", "2001:db8::1")
    assert bundle.algorithm == kind
    assert bundle.combined == made.fullchain_pem
    assert made.key_pem() not in bundle.combined
    assert str(made.key_pem()) not in repr(bundle)
    assert bundle.not_before <= NOW <= bundle.not_after


def test_a_root_at_the_end_and_a_chain_of_none_are_fine(authority):
    made = authority.leaf(["mail.example.test"])
    make(made, chain=pems([*made.chain, authority.root.cert]))
    make(made, chain=[])


WRONG = {
    "another key": (lambda a: make(a.leaf(["a.test"]), key=a.leaf(["b.test"]).key_pem()), "does not belong to the certificate"),
    "garbage key": (lambda a: make(a.leaf(["a.test"]), key=b"garbage"), "no PEM private key"),
    "empty key": (lambda a: make(a.leaf(["a.test"]), key=b""), "no PEM private key"),
    "encrypted key": (lambda a: make(a.leaf(["a.test"]), key=a.leaf(["a.test"]).key_pem(b"x")), "is encrypted"),
    "expired": (lambda a: make(a.leaf(["a.test"], begin=-20 * ca.DAY, end=-10 * ca.DAY)), "expired on"),
    "not yet valid": (lambda a: make(a.leaf(["a.test"], begin=10 * ca.DAY, end=20 * ca.DAY)), "not valid before"),
    "must-staple": (lambda a: make(a.leaf(["a.test"], must_staple=True)), "OCSP stapling"),
    "a CA": (lambda a: make(a.leaf(["a.test"], ca=True)), "CA certificate"),
    "a client's": (lambda a: make(a.leaf(["a.test"], server=False)), "not for TLS servers"),
    "someone else's chain": (
        lambda a: make(a.leaf(["a.test"]), chain=pems([ca.CA.make("Other").signer.cert])),
        "did not issue the server's certificate",
    ),
    "namesake's chain": (
        lambda a: make(a.leaf(["a.test"]), chain=pems([ca.CA.make().signer.cert])),
        "did not issue the server's certificate",
    ),
    "wrong order": (
        lambda a: make(a.leaf(["a.test"]), chain=pems([a.root.cert, a.signer.cert])),
        "certificate 1 of the chain",
    ),
    "small RSA": (lambda a: make(a.leaf(["a.test"], key=rsa.generate_private_key(65537, 1024))), "1024 bits"),
    "Ed25519": (lambda a: make(a.leaf(["a.test"], key=ed25519.Ed25519PrivateKey.generate())), "neither RSA nor ECDSA"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(authority, case):
    act, said = WRONG[case]
    with pytest.raises(BundleProblem, match=said) as caught:
        act(authority)
    assert str(caught.value).startswith(("/k.key: ", "/c.pem: ", "/chain.pem: "))


def test_files_in_every_arrangement(authority, tmp_path):
    made = authority.leaf(["mail.example.test"])
    contents = {"key": made.key_pem(), "cert": made.cert_pem, "chain": made.chain_pem, "fullchain": made.fullchain_pem}
    paths = {}
    for name, data in contents.items():
        paths[name] = str(tmp_path / name)
        (tmp_path / name).write_bytes(b"text before\n" + data.replace(b"\n", b"\r\n"))
    for source in (
        Source(paths["key"], paths["cert"], paths["chain"]),
        Source(paths["key"], paths["cert"], None, paths["fullchain"]),
        Source(paths["key"], paths["cert"], paths["fullchain"]),
        Source(paths["key"], paths["fullchain"]),
    ):
        assert bundles.read(source, NOW).combined == made.fullchain_pem


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "no PEM certificate"), (b"garbage", "no PEM certificate"), (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "truncated")],
)
def test_pem_that_is_none(data, said):
    with pytest.raises(BundleProblem, match=said):
        bundles.blocks(data, "/c.pem")


def test_a_pem_of_nonsense():
    with pytest.raises(BundleProblem, match="cannot be parsed"):
        bundles.leaf_of(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "/c.pem")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileProblem, match=r"nothing: cannot be read"):
        bundles.read(Source(str(tmp_path / "nothing"), str(tmp_path / "nothing")), NOW)


def test_the_chains_of_a_file():
    """Each stands behind its key, as Postfix wants it; where a certificate comes first, there is one."""
    authority = ca.CA.make()
    one, two = authority.leaf(["a.test"]), authority.leaf(["b.test"], kind="rsa")
    both = one.key_pem() + one.fullchain_pem + two.key_pem() + two.fullchain_pem
    assert [bundles.leaf_of(chain[0], "x") for chain in bundles.chains(both, "x")] == [one.cert, two.cert]
    for data in (one.fullchain_pem, one.key_pem() + one.fullchain_pem, one.cert_pem + one.key_pem() + one.chain_pem):
        [chain] = bundles.chains(data, "x")
        assert len(chain) == 2
    with pytest.raises(BundleProblem):
        bundles.chains(one.key_pem(), "x")
