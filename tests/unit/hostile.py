"""Text as an attacker would choose it, for tests of what comes from outside (rule R12)."""

from __future__ import annotations

import ipaddress
import re

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from hypothesis import strategies as st

from certbot_dovecot import bundle as bundles

#: What a certificate held that became a service which Dovecot ran as root.
ATTACK = (
    'x.test" {\n  ssl_cert = </etc/ssl/x\n}\nservice pwn {\n  executable = script /tmp/pwn\n  unix_listener pwn {\n  }\n}\n'
    'local_name "y.test'
)
#: What moves a cursor, forges a line, hides text, or is no text.
CONTROLS = "\x00\x07\b\t\n\v\f\r\x1b\x7f\x85\x9b\u200e\u2028\u202e\u2066\udc80"
_SYNTAX = " \"'#\\{}<>$%;,|/=:*._-@()[]"
_WORDS = [ATTACK, "\x1b[31m", "\x1b]0;x\x07", "a", "B", "0", "xn--", "test", "é", "..", "-o x=y"]
_PIECES = st.sampled_from([*CONTROLS, *_SYNTAX, *_WORDS])
#: Any text; often with what has a meaning in some format.
TEXT = st.one_of(st.text(max_size=12), st.lists(_PIECES, max_size=6).map("".join))
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
#: Host names and patterns, and addresses.
HOST = st.builds(
    lambda star, labels: star + ".".join([*labels, "test"]),
    st.sampled_from(["", "", "*."]),
    st.lists(LABEL, min_size=1, max_size=3),
)
ADDRESS = st.ip_addresses().map(str)
NAME = st.one_of(HOST, HOST, ADDRESS, TEXT, st.builds(lambda a, b: a + b, HOST, TEXT))
PATH = st.builds(lambda text: f"/{text}", TEXT)

#: Everything that no terminal may get: written down here once more, one by one.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def leaf(authority, names, common="", key=None):
    """A leaf with any names, as no real CA would issue it.

    :param names: DER of the extension, or texts.
    """
    made = authority.leaf(["a.test"], key=key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])
    cert = made.cert
    builder = x509.CertificateBuilder(cert.issuer, subject, made.key.public_key(), cert.serial_number)
    start, end = bundles.validity(cert)
    builder = builder.not_valid_before(start).not_valid_after(end)
    if isinstance(names, bytes):
        san = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, names)
        builder = builder.add_extension(san, critical=False)
    elif names:
        builder = builder.add_extension(x509.SubjectAlternativeName([general(name) for name in names]), critical=False)
    for extension in cert.extensions:
        if extension.oid != x509.SubjectAlternativeName.oid:
            builder = builder.add_extension(extension.value, extension.critical)
    return type(made)(made.key, builder.sign(authority.signer.key, hashes.SHA256()), made.chain)


def general(name):
    """A name of a subjectAltName, unchecked."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName._init_without_validation(name)
