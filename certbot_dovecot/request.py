"""A certificate request for a commercial CA (PKCS #10, RFC 2986): names, subject, key.  Pure, but for the randomness of a key.

What is in it: every name as subjectAltName (RFC 5280 section 4.2.1.6; a CA takes the names from there), the first one as common
name too if it fits, and what the admin says of the organisation.  What is not: OCSP must-staple, which neither Dovecot nor
Postfix does; an organizational unit, which public CAs have not been allowed to certify since September 2022 (CA/Browser Forum,
ballot SC47); an e-mail address, which they drop.

A name is checked before it is asked for, since a CA says no only after the form is filled in, or takes money first.  Wrong
input is a :class:`~certbot_dovecot.problems.Problem` that names it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional, Union

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from certbot_dovecot.certificates.names import LONGEST, is_host_name, is_label, shown
from certbot_dovecot.problems import Problem

PrivateKey = Union[rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey]

#: As certbot's options have them.
CURVES: dict[str, type[Union[ec.SECP256R1, ec.SECP384R1, ec.SECP521R1]]] = {
    "secp256r1": ec.SECP256R1,
    "secp384r1": ec.SECP384R1,
    "secp521r1": ec.SECP521R1,
}
#: ub-common-name, ub-organization-name, ub-locality-name, ub-state-name (RFC 5280 appendix A.1).
_LONGEST = {"state": 128, "locality": 128, "organization": 64}
_LONGEST_COMMON_NAME = 64


@dataclass(frozen=True)
class Subject:
    """What the admin says of the organisation; empty for nothing.

    :param country: two letters, ISO 3166.
    """

    country: str = ""
    state: str = ""
    locality: str = ""
    organization: str = ""


def names(given: Iterable[str]) -> tuple[str, ...]:
    """The names as they are asked for: lower case, no dot at the end, each once, in the order given.

    :param given: host names, wildcards, IP addresses.
    :raises Problem: one cannot be certified.
    """
    return tuple(dict.fromkeys(_name(name) for name in given))


def subject(given: Subject) -> Subject:
    """The subject as it is asked for.

    :raises Problem: a part of it cannot be certified.
    """
    if given.country and not re.fullmatch("[A-Za-z]{2}", given.country):
        raise Problem(
            f"--country {given.country!r} is not a code of two letters",
            left="Nothing was written",
            todo="Give that of ISO 3166, as DE or US",
        )
    for part, longest in _LONGEST.items():
        value = getattr(given, part)
        if len(value) > longest or any(not char.isprintable() for char in value):
            raise Problem(
                f"--{part} can have {longest} characters at most, and no control characters",
                left="Nothing was written",
                todo="Give it so, or leave it out and say it in the CA's form",
            )
    return Subject(given.country.upper(), given.state, given.locality, given.organization)


def new_key(algorithm: str, parameter: str) -> PrivateKey:
    """Make a private key.

    :param algorithm: ``ecdsa`` or ``rsa``.
    :param parameter: the curve's name, or the number of bits.
    """
    if algorithm == "rsa":
        return rsa.generate_private_key(65537, int(parameter))
    return ec.generate_private_key(CURVES[parameter]())


def key_pem(key: PrivateKey) -> bytes:
    """PKCS #8, not encrypted: no server can ask for a passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make(key: PrivateKey, wanted: Sequence[str], about: Subject) -> bytes:
    """The request, PEM.

    :param wanted: as :func:`names` gives them.
    :param about: as :func:`subject` gives it.
    """
    name = _subject(wanted, about)
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    # Critical if there is no other name (RFC 5280 section 4.2.1.6).
    builder = builder.add_extension(_alternatives(wanted), critical=not list(name))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def says(pem: Optional[bytes], key: PrivateKey, wanted: Sequence[str], about: Subject) -> bool:
    """Whether a request says just this, so that there is no need for another one.

    :param pem: None if there is none.
    """
    try:
        found = x509.load_pem_x509_csr(pem or b"")
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    spki = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    same_key = found.public_key().public_bytes(*spki) == key.public_key().public_bytes(*spki)
    return same_key and found.subject == _subject(wanted, about) and alternatives == _alternatives(wanted)


def asked(pem: Optional[bytes]) -> tuple[str, ...]:
    """The names that a request asks for; none if it cannot be read.

    :param pem: None if there is none.
    """
    try:
        found = x509.load_pem_x509_csr(pem or b"").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return ()
    return tuple(shown(str(name.value)) for name in found)


def _subject(wanted: Sequence[str], about: Subject) -> x509.Name:
    common = wanted[0] if len(wanted[0]) <= _LONGEST_COMMON_NAME else ""
    parts = (
        (NameOID.COUNTRY_NAME, about.country),
        (NameOID.STATE_OR_PROVINCE_NAME, about.state),
        (NameOID.LOCALITY_NAME, about.locality),
        (NameOID.ORGANIZATION_NAME, about.organization),
        (NameOID.COMMON_NAME, common),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])


def _alternatives(wanted: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general(name) for name in wanted])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(given: str) -> str:
    """One name; see :func:`names`."""

    def wrong(what: str, todo: str = "Give the host name alone, as mail.example.org") -> Problem:
        return Problem(what, where=given or "''", left="Nothing was written", todo=todo)

    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        pass
    else:
        if getattr(address, "scope_id", None):
            raise wrong("an address with a scope is one of this network only", "Give a public address")
        return str(address)
    name = given.lower()
    name = name[:-1] if name.endswith(".") else name
    if "://" in name or "/" in name:
        raise wrong("this is a URL, not a host name")
    if "@" in name:
        raise wrong("this is a mail address, not a host name")
    if ":" in name:
        raise wrong("a certificate is for a host, whatever the port")
    if not name.isascii():
        raise wrong(
            "a certificate holds an internationalized name in its ASCII form",
            "Give it so (Punycode, xn--...; idn2 NAME prints it)",
        )
    labels = name.split(".")
    host = labels[1:] if labels[0] == "*" else labels
    if "*" in "".join(host):
        raise wrong("a wildcard stands for the first label, and all of it", "Give it as *.example.org")
    bad = next((label for label in host if not is_label(label)), None)
    if bad is not None or len(name) > LONGEST:
        reason = "it is too long" if bad is None else f"{bad!r} is not 1 to 63 letters, digits and hyphens (none at an end)"
        raise wrong(f"this is not a host name: {reason}")
    if len(host) < 2:
        raise wrong("a host name needs at least two labels, a wildcard three", "Give it in full, as mail.example.org")
    if not is_host_name(name):
        raise wrong("this is neither a host name nor an address")
    return name
