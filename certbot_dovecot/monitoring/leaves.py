"""What is said of a certificate, of a file or of an endpoint.

Fails as a :class:`~certbot_dovecot.problems.Problem` where a file cannot be read; what an endpoint sent never raises.
"""

from __future__ import annotations

from typing import Optional

from cryptography import x509

from certbot_dovecot import bundle as bundles
from certbot_dovecot import files
from certbot_dovecot.dane.answers import Key
from certbot_dovecot.monitoring.model import Leaf
from certbot_dovecot.problems import Problem

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def digest(path: str) -> str:
    """SHA-256 of the first certificate of a file; empty if it cannot be read."""
    try:
        return bundles.digest_of(bundles.leaf_of(files.read(path), path))
    except Problem:
        return ""


def read(path: str) -> Leaf:
    """The first certificate of a file.

    :raises Problem: it cannot be read.
    """
    return describe(bundles.leaf_of(files.read(path), path))


def parse(der: bytes) -> Optional[Leaf]:
    """What an endpoint sent; None if it cannot be parsed."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return describe(x509.load_der_x509_certificate(der))
    except (ValueError, UnsupportedAlgorithm, Problem):
        return None


def describe(certificate: x509.Certificate) -> Leaf:
    """What we say of a certificate."""
    algorithm, parameter = bundles.kind_of(certificate)
    start, end = bundles.validity(certificate)
    shown = f"{algorithm.upper()} {_CURVES.get(parameter, parameter)}"
    key = Key(*bundles.digests_of(certificate))
    own = bundles.is_self_signed(certificate)
    return Leaf(bundles.names_of(certificate), bundles.digest_of(certificate), key, shown, start, end, own)
