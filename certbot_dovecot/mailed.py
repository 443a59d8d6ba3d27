"""What a CA mailed: certificates in some files, in some form and order, made into leaf and chain.  Pure.

CAs send the certificate and its "bundle" as PEM with text around, as DER, as PKCS #7 (``.p7b``, PEM or DER), unsorted, with the
root, with certificates twice, with others that have nothing to do with it, or all in one file.  What comes out is what a server
is to send (RFC 8446 section 4.4.2): the leaf, then each certificate that issued the one before it, without the root.

Which way up, where there are several (cross-signed CAs)?  In this order:

1. one on which nothing is expired, or not yet valid;
2. one that leads to a root that is among the files: the CA says with it where its chain ends;
3. the longest: a client that knows a nearer root stops there, and an older client needs the rest;
4. the one that stays valid for longest; then the smallest fingerprint, so that the order of the files never matters.

Nothing is fetched.  An issuer that is missing is a :class:`~certbot_dovecot.problems.BundleProblem` that says where the leaf
says it can be had; so is a file in which there is no certificate, with what it is instead.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from shlex import quote
from typing import Optional

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from certbot_dovecot import bundle as bundles
from certbot_dovecot.certificates.names import shown
from certbot_dovecot.problems import BundleProblem

_CERTIFICATE = (b"CERTIFICATE", b"X509 CERTIFICATE")
_PKCS7 = (b"PKCS7", b"PKCS #7 SIGNED DATA", b"CMS")
_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 #]+)-----")
_PEM = re.compile(_LABEL.pattern + rb"(.*?)-----END \1-----", re.DOTALL)
#: signedData (RFC 2315 section 14), as it stands in DER.
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
#: Version 3 of a PFX (RFC 7292 section 4), likewise.
_PFX = bytes.fromhex("020103")
#: No chain of a real CA has so many certificates.
_LONGEST = 8


@dataclass(frozen=True)
class Sorted:
    """What is to be served, and what is not.

    :param leaf: the server's certificate.
    :param chain: its issuer first, each followed by its own issuer; without the root.
    :param root: the self-signed one above, if it was there.
    :param left_out: everything else that was there, sorted by name.
    """

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    root: Optional[x509.Certificate]
    left_out: tuple[x509.Certificate, ...]

    @property
    def top(self) -> x509.Certificate:
        """The last certificate that is served."""
        return self.chain[-1] if self.chain else self.leaf


def certificates(data: bytes, path: str) -> list[x509.Certificate]:
    """The certificates in a file, in its order; at least one.

    :param path: for messages.
    :raises BundleProblem: there is none, or one is damaged.
    """
    found: list[x509.Certificate] = []
    # A mail may have other blocks, a signature's among them.
    wanted = [label for label in _LABEL.findall(data) if label in _CERTIFICATE + _PKCS7]
    blocks = [(label, body) for label, body in _PEM.findall(data) if label in wanted]
    if len(wanted) != len(blocks):
        raise BundleProblem("a PEM block in it is truncated", where=path, todo="Get the complete file again")
    for label, body in blocks:
        if label in _CERTIFICATE:
            found.append(_one(_decoded(body, path), path))
        else:
            found += _several(_decoded(body, path), path)
    if not blocks and data[:1] == b"\x30":
        found = _of_der(data, path)
    if not found:
        raise _none(data, _LABEL.findall(data), path)
    return found


def leaf(mailed: Sequence[x509.Certificate], spkis: AbstractSet[str], now: datetime.datetime, path: str) -> x509.Certificate:
    """The server's certificate among those of one file.

    :param spkis: the keys that we have: of several servers' certificates, one of theirs is meant.
    :returns: of several, the one that was valid from the latest date on, and is valid now.
    :raises BundleProblem: there are CA certificates only.
    """
    servers = [certificate for certificate in _unique(mailed) if not _is_ca(certificate)]
    if not servers:
        raise BundleProblem(
            f"there is no server's certificate in it, only a CA certificate ({name_of(mailed[0])})",
            where=path,
            todo="Give the certificate for your host names with --cert, and those of the CA with --ca-bundle",
        )
    ours = [certificate for certificate in servers if bundles.spki_of(certificate) in spkis] or servers
    return max(ours, key=lambda one: (_valid([one], now), bundles.validity(one)[0], bundles.digest_of(one)))


def order(leaf: x509.Certificate, others: Iterable[x509.Certificate], now: datetime.datetime, path: str) -> Sorted:
    """The chain of ``leaf`` out of ``others``, whatever their order and number.

    :param path: the file where a missing one should be, for messages.
    :raises BundleProblem: the leaf's issuer is not among them, or the chain is expired.
    """
    pool = [one for one in _unique(others) if one != leaf]
    ways = [tuple(way) for way in _ways([leaf], pool)]
    # The smallest fingerprints come first, and the first of equals is taken.
    best = max(ways, key=lambda way: _rank(way, now))
    root = best[-1] if _self_signed(best[-1]) else None
    if root is None and best == (leaf,):
        raise _no_issuer(leaf, path)
    chain = best[1:-1] if root is not None else best[1:]
    for one in chain:
        if not _valid([one], now):
            start, end = bundles.validity(one)
            raise BundleProblem(
                f"the CA certificate {name_of(one)} is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d} only: clients refuse it",
                where=path,
                todo="Get the CA's present bundle, and give it with --ca-bundle",
            )
    served = {leaf, *chain, root}
    return Sorted(leaf, chain, root, tuple(sorted((one for one in pool if one not in served), key=name_of)))


def pem(sequence: Iterable[x509.Certificate]) -> bytes:
    """Certificates as PEM."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in sequence)


def private_key(data: bytes) -> bytes:
    """The private key in a file that may have certificates, too; the file itself if there is no PEM block of one."""
    found = next((block for block in _PEM.finditer(data) if block.group(1).endswith(b"PRIVATE KEY")), None)
    return found.group(0) + b"\n" if found else data


def name_of(certificate: x509.Certificate) -> str:
    """How an admin knows a certificate: its common name, else its subject, else its first name."""
    return _name(certificate.subject) or next(iter(bundles.names_of(certificate)), "a certificate without a name")


def issuer_of(certificate: x509.Certificate) -> str:
    """The same of its issuer."""
    return _name(certificate.issuer)


def _name(name: x509.Name) -> str:
    common = [str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return shown(common[0] if common else name.rfc4514_string())


def _ways(way: list[x509.Certificate], pool: Sequence[x509.Certificate]) -> Iterator[list[x509.Certificate]]:
    """Every way up from the last certificate of ``way``, as far as it goes; a CA is passed once."""
    last = way[-1]
    above: list[x509.Certificate] = []
    if not _self_signed(last) and len(way) <= _LONGEST:
        passed = {(one.subject, bundles.spki_of(one)) for one in way}
        above = [
            one
            for one in pool
            if (one.subject, bundles.spki_of(one)) not in passed
            and (_is_ca(one) or _self_signed(one))
            and bundles.issued(last, one)
        ]
    if not above:
        yield way
    for one in above:
        yield from _ways([*way, one], pool)


def _rank(way: Sequence[x509.Certificate], now: datetime.datetime) -> tuple[bool, bool, int, datetime.datetime]:
    """The larger, the better; see the module."""
    return _valid(way[1:], now), _self_signed(way[-1]), len(way), min(bundles.validity(one)[1] for one in way)


def _valid(some: Iterable[x509.Certificate], now: datetime.datetime) -> bool:
    return all(start <= now <= end for start, end in map(bundles.validity, some))


def _self_signed(certificate: x509.Certificate) -> bool:
    return bundles.issued(certificate, certificate)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def _unique(some: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """Without duplicates, in an order that does not depend on the one they came in."""
    return sorted(set(some), key=bundles.digest_of)


def _no_issuer(leaf: x509.Certificate, path: str) -> BundleProblem:
    urls = []
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        urls = [
            one.access_location.value for one in access if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        ]
    except (x509.ExtensionNotFound, ValueError):
        pass
    where = f" The certificate says that it is at {shown(urls[0])}" if urls else ""
    return BundleProblem(
        f"the certificate of its issuer, {issuer_of(leaf)}, is missing, and clients could not follow the chain",
        where=path,
        todo=f"Give the CA's bundle with --ca-bundle.{where}",
    )


def _decoded(body: bytes, path: str) -> bytes:
    """The bytes of a PEM block, however its lines end, indented, quoted (``>``) or dash-escaped (RFC 9580 section 7.2).

    Header lines (RFC 1421) are dropped.
    """
    lines = [line.strip(b" \t>-") for line in body.splitlines()]
    try:
        return base64.b64decode(b"".join(line for line in lines if b":" not in line), validate=True)
    except binascii.Error as exc:
        raise _damaged(path) from exc


def _one(der: bytes, path: str) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Parsed late by some versions of the library; a key that it does not know cannot be compared with another.
        bundles.spki_of(certificate)
        bundles.validity(certificate)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise _damaged(path) from exc
    return certificate


def _several(der: bytes, path: str) -> list[x509.Certificate]:
    try:
        with warnings.catch_warnings():
            # That it is BER and not DER is a matter of the CA's.
            warnings.simplefilter("ignore")
            loaded = pkcs7.load_der_pkcs7_certificates(der)
        return [_one(one.public_bytes(Encoding.DER), path) for one in loaded]
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise BundleProblem(
            "this PKCS #7 file cannot be read, or has no certificate",
            where=path,
            todo=f"Convert it: openssl pkcs7 -print_certs -in {quote(path)} -out FILE.pem (with -inform DER if it is binary)",
        ) from exc


def _of_der(data: bytes, path: str) -> list[x509.Certificate]:
    content = data[2 + (data[1] & 0x7F if len(data) > 1 and data[1] & 0x80 else 0) :]
    if content.startswith(_PFX):
        return []
    return _several(data, path) if content.startswith(_SIGNED_DATA) else [_one(data, path)]


def _damaged(path: str) -> BundleProblem:
    return BundleProblem("a certificate in it cannot be parsed", where=path, todo="Get the complete file again")


def _none(data: bytes, labels: Sequence[bytes], path: str) -> BundleProblem:
    """There is no certificate; what there is instead."""
    if data[:1] == b"\x30":
        return BundleProblem(
            "this is a PKCS #12 file (.pfx, .p12): certificates and a private key behind a password",
            where=path,
            todo=f"Take it apart (umask 077; openssl pkcs12 -in {quote(path)} -nodes -out FILE.pem), then give FILE.pem with "
            "--cert and with --key",
        )
    if any(label.endswith(b"CERTIFICATE REQUEST") for label in labels):
        return BundleProblem(
            "this is a certificate request, not a certificate",
            where=path,
            todo="Send it to the CA, and give what comes back",
        )
    if any(label.endswith(b"PRIVATE KEY") for label in labels):
        return BundleProblem(
            "there is a private key in it, and no certificate", where=path, todo="Give the CA's files; a key goes with --key"
        )
    return BundleProblem(
        "there is no certificate in it",
        where=path,
        todo="Give what the CA sent: PEM (BEGIN CERTIFICATE), DER, or PKCS #7 (.p7b)",
    )
