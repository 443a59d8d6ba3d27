"""A certificate authority that makes what a test asks for, right or wrong: also pairs that no real CA would issue.

    ca = CA.make()
    made = ca.leaf(["mail.example.test", "192.0.2.1"], kind="rsa", end=-DAY)      # expired
    paths = made.write("/etc/dovecot/private")                                    # paths.cert, paths.key, paths.chain

Wrong order: swap ``made.chain``, or write ``made.chain_pem + made.cert_pem``.  Someone else's chain: ``replace(made,
chain=other.chain)``.  An encrypted key: ``made.key_pem(b"password")``.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

_CA_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
Key = Union[ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey]

#: Seconds.
DAY = 86400


@dataclass(frozen=True)
class Paths:
    """Where a pair was written."""

    cert: str
    key: str
    chain: str
    fullchain: str


@dataclass(frozen=True)
class Made:
    """A private key, its certificate, and the chain above it, nearest first, without the root."""

    key: Key
    cert: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def cert_pem(self) -> bytes:
        return self.cert.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.cert.public_bytes(Encoding.DER)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(cert.public_bytes(Encoding.PEM) for cert in self.chain)

    @property
    def fullchain_pem(self) -> bytes:
        return self.cert_pem + self.chain_pem

    def key_pem(self, password: Optional[bytes] = None) -> bytes:
        """PKCS#8, encrypted if there is a password."""
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def write(self, directory: str, stem: str = "other", password: Optional[bytes] = None) -> Paths:
        """Write ``stem.pem``, ``stem.key`` (0600), ``stem.chain.pem`` and ``stem.fullchain.pem``."""
        base = os.path.join(directory, stem)
        paths = Paths(f"{base}.pem", f"{base}.key", f"{base}.chain.pem", f"{base}.fullchain.pem")
        for path, data, mode in (
            (paths.cert, self.cert_pem, 0o644),
            (paths.key, self.key_pem(password), 0o600),
            (paths.chain, self.chain_pem, 0o644),
            (paths.fullchain, self.fullchain_pem, 0o644),
        ):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
                file.write(data)
        return paths


@dataclass(frozen=True)
class Elsewhere:
    """A private key that we do not have."""

    public: Any

    def public_key(self) -> Any:
        return self.public


@dataclass(frozen=True)
class CA:
    """An authority: a root, and the intermediate that signs.

    :param now: what validity is counted from; None for the moment at which a certificate is made.
    """

    root: Made
    signer: Made
    now: Optional[datetime.datetime] = None

    @classmethod
    def make(cls, name: str = "Lab", steps: int = 1, now: Optional[datetime.datetime] = None) -> CA:
        """A root and so many intermediates, one below the other."""
        root = signer = make(f"{name} Root", [], None, ca=True, now=now)
        for step in range(steps):
            signer = make(f"{name} Intermediate{f' {step + 1}' if steps > 1 else ''}", [], signer, ca=True, now=now)
        return cls(root, signer, now)

    def answer(self, request: bytes, *, end: float = 365 * DAY, **how: Any) -> Made:
        """What a commercial CA does with a request: a leaf for its key and its names; options as for a leaf."""
        csr = x509.load_pem_x509_csr(request)
        assert csr.is_signature_valid
        wanted = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(name.value) for name in wanted]
        return self.leaf(names, key=cast(Key, Elsewhere(csr.public_key())), end=end, **how)

    def cross(self, other: Made, *, end: float = 3650 * DAY) -> x509.Certificate:
        """Another CA's certificate, by this root: the same name and key."""
        name = other.cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return make(str(name), [], self.root, other.key, end=end, ca=True, now=self.now).cert

    def leaf(
        self,
        names: Sequence[str],
        *,
        kind: str = "ecdsa",
        key: Optional[Key] = None,
        begin: float = -DAY,
        end: float = 90 * DAY,
        must_staple: bool = False,
        ca: bool = False,
        server: bool = True,
        issuer_at: str = "",
    ) -> Made:
        """A leaf for ``names``, host names or addresses.

        :param kind: ``ecdsa`` or ``rsa``; not used with a ``key``.
        :param begin: first second of validity, counted from the authority's ``now``.
        :param end: last one.
        :param ca: basic constraints say that it is a CA.
        :param server: extended key usage is server authentication, else client authentication.
        :param issuer_at: where it says that its issuer's certificate is.
        """
        key = key or new_key(kind)
        return make("", names, self.signer, key, begin, end, must_staple, ca, server, issuer_at, self.now)


def new_key(kind: str = "ecdsa") -> Key:
    """P-256 or RSA 2048."""
    return rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


def self_signed(name: str) -> Made:
    """As Debian's snakeoil: its own issuer, RSA."""
    return make(name, [name], None, new_key("rsa"))


def make(
    subject: str,
    names: Sequence[str],
    issuer: Optional[Made],
    key: Optional[Key] = None,
    begin: float = -DAY,
    end: float = 3650 * DAY,
    must_staple: bool = False,
    ca: bool = False,
    server: bool = True,
    issuer_at: str = "",
    now: Optional[datetime.datetime] = None,
) -> Made:
    """Any certificate; parameters as for a leaf and a CA.

    :param issuer: None for one that is its own.
    """
    key = key or new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else [])
    now = (now or datetime.datetime.now(datetime.timezone.utc)).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.cert.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(seconds=begin))
        .not_valid_after(now + datetime.timedelta(seconds=end))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # Python 3.13 and later refuse a certificate without it.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer.key if issuer else key).public_key()), False)
    )
    if names:
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(n) for n in names]), critical=not subject)
    if issuer_at:
        at = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(issuer_at))
        builder = builder.add_extension(x509.AuthorityInformationAccess([at]), critical=False)
    if must_staple:
        builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
    if ca:
        builder = builder.add_extension(_CA_USAGE, critical=True)
    cert = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    # The chain of a leaf ends below the root: an issuer that has an issuer itself belongs to it.
    chain = (issuer.cert, *issuer.chain) if issuer and issuer.cert.issuer != issuer.cert.subject else ()
    return Made(key, cert, chain)


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
