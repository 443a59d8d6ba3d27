"""A bundle: private key, leaf and chain, checked together before any server hears of them.

A key that does not match, a garbage or an empty PEM passes ``doveconf`` and a reload, and then every new TLS connection fails
(facts/dovecot.md).  So everything is checked here, first, with the reason in words: it parses, the key is the leaf's, every
certificate of the chain issued the one before it, the leaf is valid now, a TLS server may use it, its names are host names or
addresses, and it does not ask for OCSP stapling, which neither Dovecot nor Postfix does.

A bundle that was made is good; what is wrong is a :class:`~certbot_dovecot.problems.BundleProblem` that names the file.
Nothing is written here.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Optional, Union

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from certbot_dovecot import files
from certbot_dovecot.certificates import names as checks
from certbot_dovecot.problems import BundleProblem

PublicKey = Union[rsa.RSAPublicKey, ec.EllipticCurvePublicKey]

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END_OF_KEY = re.compile(rb"-----END [A-Z ]*PRIVATE KEY-----")
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)
_ANY_EXTENDED_KEY_USAGE = x509.ObjectIdentifier("2.5.29.37.0")
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_SMALLEST_RSA = 2048
_SERVER = "Get a certificate for a TLS server"


@dataclass(frozen=True)
class Source:
    """The files a bundle is read from, absolute paths.

    :param chain: the certificates between leaf and root; None if they follow the leaf in ``cert`` or ``fullchain``.
    :param fullchain: leaf and chain in one file.
    :param read_as: (``key``, ``cert`` or ``chain``, bytes) of those that were read already, by someone who knows what is in
        such files (a CA's mail, PKCS #7, out of order): these PEM bytes stand for what is in the file.
    """

    key: str
    cert: str
    chain: Optional[str] = None
    fullchain: Optional[str] = None
    read_as: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)

    @property
    def paths(self) -> tuple[str, ...]:
        """All files that will be read."""
        read = dict(self.read_as)
        named = {"key": self.key, "cert": self.cert, "chain": self.chain, "fullchain": self.fullchain}
        return tuple(path for part, path in named.items() if path and part not in read)

    def read(self, part: str, path: str) -> bytes:
        """The bytes of one of its files.

        :param part: ``key``, ``cert`` or ``chain``.
        :raises FileProblem: it cannot be read.
        """
        known = dict(self.read_as)
        return known[part] if part in known else files.read(path)


@dataclass(frozen=True)
class Bundle:
    """Key, leaf and chain that belong together.

    :param key_pem: private key, unencrypted PEM.
    :param combined: leaf first, then the chain, PEM: what both servers read.
    :param names: DNS names and IP addresses of the leaf, as text, in its order.
    :param leaf: SHA-256 of the leaf's DER, upper-case hex.
    :param spki: SHA-256 of the leaf's SubjectPublicKeyInfo, upper-case hex: the data of a ``3 1 1`` TLSA record.
    :param algorithm: ``ecdsa`` or ``rsa``.
    :param not_before: start of validity (UTC).
    :param not_after: end of validity (UTC).
    """

    key_pem: bytes = field(repr=False)
    combined: bytes = field(repr=False)
    names: tuple[str, ...]
    leaf: str
    spki: str
    algorithm: str
    not_before: datetime.datetime
    not_after: datetime.datetime


def read(source: Source, now: datetime.datetime) -> Bundle:
    """Read and check the files of ``source``.

    :param now: the time it must be valid at, UTC.
    :raises BundleProblem: they are not a bundle that a mail server can serve.
    :raises FileProblem: one cannot be read.
    """
    cert = blocks(source.read("cert", source.cert), source.cert)
    chain_path = source.chain or source.fullchain
    chain = blocks(source.read("chain", chain_path), chain_path) if chain_path else cert[1:]
    if chain_path and chain and chain[0] == cert[0]:
        chain = chain[1:]
    return make(source.read("key", source.key), cert[0], chain, now, source)


def make(key: bytes, leaf: bytes, chain: list[bytes], now: datetime.datetime, source: Source) -> Bundle:
    """Check PEM bytes and make the bundle of them; pure.

    :param key: PEM private key.
    :param leaf: one PEM certificate.
    :param chain: PEM certificates, the leaf's issuer first; a root at the end may be there or not.
    :param source: where they came from, for messages.
    :raises BundleProblem: the first thing that is wrong.
    """
    leaf_cert = _certificate(leaf, source.cert)
    chain_path = source.chain or source.fullchain or source.cert
    chain_certs = [_certificate(pem, chain_path) for pem in chain]
    public = _check_leaf(leaf_cert, now, source.cert)
    _check_key(key, leaf_cert, source)
    _check_chain(leaf_cert, chain_certs, chain_path)
    return Bundle(
        key_pem=key if key.endswith(b"\n") else key + b"\n",
        combined=b"".join(pem.strip().replace(b"\r\n", b"\n") + b"\n" for pem in [leaf, *chain]),
        names=host_names(leaf_cert, source.cert),
        leaf=hashlib.sha256(leaf_cert.public_bytes(Encoding.DER)).hexdigest().upper(),
        spki=spki_of(leaf_cert),
        algorithm="rsa" if isinstance(public, rsa.RSAPublicKey) else "ecdsa",
        not_before=validity(leaf_cert)[0],
        not_after=validity(leaf_cert)[1],
    )


def blocks(data: bytes, path: str) -> list[bytes]:
    """The PEM certificates in ``data``, text around them dropped; at least one.

    :raises BundleProblem: there is none, or the last one has no end.
    """
    found = _BLOCK.findall(data)
    if data.count(_BEGIN) != len(found):
        raise BundleProblem("a certificate in it is truncated", where=path, todo="Get the complete file again")
    if not found:
        raise BundleProblem("there is no PEM certificate in it", where=path, todo="Give a file of BEGIN CERTIFICATE blocks")
    return [bytes(block) for block in found]


def chains(data: bytes, path: str) -> list[list[bytes]]:
    """The PEM certificates of a file that may have several chains, each behind its key, as ``smtpd_tls_chain_files`` has them.

    :returns: for each chain its certificates, the leaf first; at least one chain.
    :raises BundleProblem: there is no certificate, or one has no end.
    """
    first, *rest = _END_OF_KEY.split(data)
    if _BEGIN in first or not rest:
        return [blocks(data, path)]
    return [blocks(part, path) for part in rest if _BEGIN in part] or [blocks(data, path)]


def leaf_of(data: bytes, path: str) -> x509.Certificate:
    """The first certificate of a PEM file.

    :raises BundleProblem: there is none.
    """
    return _certificate(blocks(data, path)[0], path)


def digest_of(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate's DER, upper-case hex."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest().upper()


def spki_of(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate's SubjectPublicKeyInfo, upper-case hex (RFC 6698 section 2.1: selector 1, matching type 1)."""
    return digests_of(certificate)[0]


def digests_of(certificate: x509.Certificate) -> tuple[str, str]:
    """SHA-256 and SHA-512 of a certificate's SubjectPublicKeyInfo, upper-case hex (matching types 1 and 2)."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest().upper(), hashlib.sha512(spki).hexdigest().upper()


def kind_of(certificate: x509.Certificate) -> tuple[str, str]:
    """Algorithm and curve or bits of a certificate's key: ``("ecdsa", "secp256r1")``, ``("rsa", "2048")``.

    :raises BundleProblem: it is neither.
    """
    kind = kind_of_key(certificate.public_key())
    if kind is None:
        todo = "Get a certificate with --key-type ecdsa or rsa"
        raise BundleProblem("the certificate's key is neither RSA nor ECDSA", todo=todo)
    return kind


def kind_of_key(public: object) -> Optional[tuple[str, str]]:
    """The same of a public key; None if it is neither."""
    if isinstance(public, rsa.RSAPublicKey):
        return "rsa", str(public.key_size)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return "ecdsa", public.curve.name
    return None


def host_names(certificate: x509.Certificate, path: str) -> tuple[str, ...]:
    """The names of a certificate that is to be installed, checked; in its order, without a dot at their end.

    What they are written into (a configuration, a table, a zone file) has no place for anything else.

    :param path: its file, for the message.
    :raises BundleProblem: one is neither a host name nor an address, or they cannot be read.
    """
    todo = "Nothing of it may reach a server's configuration. Get a certificate for host names and addresses alone"
    try:
        found = _names(certificate)
    except ValueError as exc:
        raise BundleProblem("the names in the certificate cannot be read", where=path, todo=todo) from exc
    for name in found:
        if not checks.normal(name):
            what = f"the name {checks.brief(name)} in the certificate is neither a host name nor an IP address"
            raise BundleProblem(what, where=path, todo=todo)
    return tuple(map(checks.normal, found))


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names of a certificate that is only looked at, to be shown and compared; what is no name is there, escaped.

    For what is to be installed there is :func:`host_names`.

    :returns: DNS names and IP addresses of the subjectAltName, the common name if there is no such extension; none if they
        cannot be read.
    """
    try:
        return tuple(map(checks.shown, _names(certificate)))
    except ValueError:
        return ()


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """As they are.

    :raises ValueError: they cannot be parsed.
    """
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return tuple(str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    addresses = [str(address) for address in san.get_values_for_type(x509.IPAddress)]
    return (*san.get_values_for_type(x509.DNSName), *addresses)


def covers(names: Collection[str], name: str) -> bool:
    """Whether a certificate of ``names`` is for ``name``, which may be a pattern (RFC 9525 section 6.3).

    ``*`` stands for one whole first label.

    :param names: in any letter case.
    """
    wanted = name.lower()
    return bool({wanted, f"*.{wanted.partition('.')[2]}"} & {each.lower() for each in names})


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether a certificate is signed with its own key, so that no client trusts it by itself."""
    return issued(certificate, certificate)


def validity(certificate: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    """First and last moment of validity, UTC, with a time zone (cryptography before 42 has them without one)."""
    if hasattr(certificate, "not_valid_before_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    utc = datetime.timezone.utc
    return certificate.not_valid_before.replace(tzinfo=utc), certificate.not_valid_after.replace(tzinfo=utc)


def _certificate(pem: bytes, path: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as exc:
        raise BundleProblem("a certificate in it cannot be parsed", where=path, todo="Get the complete file again") from exc


def _check_key(key: bytes, leaf: x509.Certificate, source: Source) -> None:
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError as exc:
        raise BundleProblem(
            "the private key is encrypted, and a mail server cannot ask for its passphrase",
            where=source.key,
            todo="Write it without one (openssl pkey -in FILE -out NEWFILE) and give that file",
        ) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise BundleProblem(
            "there is no PEM private key in it that can be parsed", where=source.key, todo="Get the complete file again"
        ) from exc
    theirs = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if theirs != leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise BundleProblem(
            f"this private key does not belong to the certificate in {source.cert}",
            where=source.key,
            todo="Give the key that the certificate was requested with",
        )


def _check_leaf(leaf: x509.Certificate, now: datetime.datetime, path: str) -> PublicKey:
    """Everything about the leaf alone (RFC 5280 section 4.2, RFC 7633 for must-staple)."""

    def wrong(what: str, todo: str) -> BundleProblem:
        return BundleProblem(what, where=path, todo=todo)

    start, end = validity(leaf)
    if now > end:
        raise wrong(f"the certificate expired on {end:%Y-%m-%d %H:%M} UTC", "Renew it first")
    if now < start:
        raise wrong(
            f"the certificate is not valid before {start:%Y-%m-%d %H:%M} UTC",
            "Check this machine's clock, or wait until then",
        )
    public = leaf.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < _SMALLEST_RSA:
            raise wrong(
                f"its RSA key has {public.key_size} bits, and TLS libraries refuse fewer than {_SMALLEST_RSA}",
                "Get a certificate with a key of 2048 bits or more, or with --key-type ecdsa",
            )
    elif not (isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES):
        raise wrong(
            "its key is neither RSA nor ECDSA on P-256, P-384 or P-521, and mail clients cannot use it",
            "Get a certificate with --key-type ecdsa --elliptic-curve secp256r1",
        )
    try:
        extensions = leaf.extensions
    except ValueError as exc:
        raise wrong("its extensions cannot be parsed", "Get the certificate again, and tell its CA") from exc
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise wrong("the first certificate is a CA certificate, not a server's", "Put the server's certificate first")
        if isinstance(value, x509.TLSFeature) and x509.TLSFeatureType.status_request in value:
            raise wrong(
                "the certificate demands OCSP stapling (must-staple), which neither Dovecot nor Postfix does",
                "Get a certificate without --must-staple",
            )
        if isinstance(value, x509.ExtendedKeyUsage) and not (
            {ExtendedKeyUsageOID.SERVER_AUTH, _ANY_EXTENDED_KEY_USAGE} & set(value)
        ):
            raise wrong("the certificate is not for TLS servers (extended key usage)", _SERVER)
        if isinstance(value, x509.KeyUsage) and not (value.digital_signature or value.key_encipherment):
            raise wrong("the certificate's key usage does not allow TLS", _SERVER)
    return public


def _check_chain(leaf: x509.Certificate, chain: list[x509.Certificate], path: str) -> None:
    child, label = leaf, "the server's certificate"
    for number, parent in enumerate(chain, 1):
        if not issued(child, parent):
            raise BundleProblem(
                f"certificate {number} of the chain ({parent.subject.rfc4514_string()}) did not issue {label}, "
                f"whose issuer is {child.issuer.rfc4514_string()}",
                where=path,
                todo="Put the intermediate certificates in order: the server's issuer first, each followed by its own issuer",
            )
        child, label = parent, f"certificate {number} of the chain"


def issued(child: x509.Certificate, parent: x509.Certificate) -> bool:
    """Whether ``parent`` signed ``child``; by name alone for a signature algorithm that this library version cannot check."""
    if child.issuer != parent.subject:
        return False
    try:
        key = parent.public_key()
        if hasattr(child, "verify_directly_issued_by"):
            child.verify_directly_issued_by(parent)
        elif child.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
            return True
        elif isinstance(key, rsa.RSAPublicKey) and isinstance(child.signature_hash_algorithm, hashes.HashAlgorithm):
            key.verify(child.signature, child.tbs_certificate_bytes, padding.PKCS1v15(), child.signature_hash_algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(child.signature_hash_algorithm, hashes.HashAlgorithm):
            key.verify(child.signature, child.tbs_certificate_bytes, ec.ECDSA(child.signature_hash_algorithm))
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return True
    return True
