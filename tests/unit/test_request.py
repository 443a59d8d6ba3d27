"""A certificate request: its names, its subject, and that it is the one that was asked for."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from certbot_dovecot import request
from certbot_dovecot.problems import Problem
from certbot_dovecot.request import Subject
from tests.plays import examples

KEY = request.new_key("ecdsa", "secp256r1")
LABELS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,10}[A-Za-z0-9])?", fullmatch=True)
TOPS = st.sampled_from(["org", "test", "xn--p1ai"])
HOSTS = st.builds(lambda star, labels, top: ".".join([*star, *labels, top]), st.sampled_from([[], ["*"]]),
                  st.lists(LABELS, min_size=1, max_size=3), TOPS)  # fmt: skip
NAMES = st.lists(st.one_of(HOSTS, st.ip_addresses().map(str)), min_size=1, max_size=8)


def read(pem):
    made = x509.load_pem_x509_csr(pem)
    return made, made.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def common_name(made):
    return [name.value for name in made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


@given(NAMES)
@settings(max_examples=examples(100), deadline=None)
def test_all_names_come_back_out_of_the_request(given_names):
    wanted = request.names(given_names)
    made, alternatives = read(request.make(KEY, wanted, Subject()))
    assert made.is_signature_valid
    assert tuple(str(name.value) for name in alternatives.value) == wanted
    assert set(wanted) == {name.lower() for name in given_names}
    assert len(wanted) == len(set(wanted))
    assert common_name(made) == [wanted[0]]
    assert [type(extension.value) for extension in made.extensions] == [x509.SubjectAlternativeName]
    assert request.names(wanted) == wanted
    assert request.says(request.make(KEY, wanted, Subject()), KEY, wanted, Subject())


def test_names_are_lower_case_and_once():
    some = ["Mail.Example.ORG.", "mail.example.org", "*.EXAMPLE.org", "2001:DB8:0::1", "192.0.2.1", "2001:db8::1"]
    assert request.names(some) == ("mail.example.org", "*.example.org", "2001:db8::1", "192.0.2.1")


BAD = {
    "": "not a host name",
    ".": "not a host name",
    "mail": "at least two labels",
    "*.org": "at least two labels, a wildcard three",
    "*": "not a host name|at least two labels",
    "m*.example.org": "a wildcard stands for the first label",
    "a.*.example.org": "a wildcard stands for the first label",
    "*.*.example.org": "a wildcard stands for the first label",
    "mail..example.org": "'' is not 1 to 63",
    ".example.org": "'' is not 1 to 63",
    "-mail.example.org": "'-mail' is not",
    "mail-.example.org": "'mail-' is not",
    "my_mail.example.org": "'my_mail' is not",
    "mail example.org": "'mail example' is not",
    f"{'a' * 64}.org": "is not 1 to 63",
    ".".join(["a" * 60] * 5): "it is too long",
    "b\u00fccher.example.org": "its ASCII form.*xn--",
    "https://mail.example.org": "this is a URL",
    "mail.example.org/": "this is a URL",
    "postmaster@example.org": "this is a mail address",
    "mail.example.org:993": "whatever the port",
    "192.0.2.300": "neither a host name nor an address",
    "fe80::1%eth0": "scope",
    "mail.example.org\n": "is not 1 to 63",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused(name):
    with pytest.raises(Problem, match=BAD[name]):
        request.names(["good.example.org", name])


@given(st.text(max_size=40))
@settings(deadline=None)
def test_whatever_is_taken_can_be_asked_for(text):
    try:
        wanted = request.names([text])
    except Problem:
        return
    assert read(request.make(KEY, wanted, Subject()))[1].value is not None


def test_a_long_first_name_is_no_common_name():
    """The subject is empty then, and the names are critical (RFC 5280 section 4.2.1.6)."""
    long = f"{'a' * 60}.example.org"
    made, alternatives = read(request.make(KEY, (long,), Subject()))
    assert not list(made.subject)
    assert alternatives.critical
    assert not read(request.make(KEY, ("a.org",), Subject()))[1].critical


def test_the_subject():
    about = request.subject(Subject("de", "Bayern", "M\u00fcnchen", "Beispiel GmbH"))
    made, _ = read(request.make(KEY, ("mail.example.org",), about))
    assert made.subject.rfc4514_string() == "CN=mail.example.org,O=Beispiel GmbH,L=M\u00fcnchen,ST=Bayern,C=DE"


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (Subject(country="Germany"), "--country 'Germany' is not a code"),
        (Subject(country="D"), "--country 'D' is not a code of two letters"),
        (Subject(country="\u00c4\u00d6"), "is not a code of two letters"),
        (Subject(organization="x" * 65), "--organization can have 64"),
        (Subject(locality="a\nb"), "--locality"),
    ],
)
def test_a_bad_subject_is_refused(about, said):
    with pytest.raises(Problem, match=said):
        request.subject(about)


def test_another_request_is_another():
    names, about = ("a.org", "b.org"), Subject(country="DE")
    pem = request.make(KEY, names, about)
    assert request.says(pem, KEY, names, about)
    assert not request.says(pem, request.new_key("ecdsa", "secp256r1"), names, about)
    assert not request.says(pem, KEY, ("b.org", "a.org"), about)
    assert not request.says(pem, KEY, names, Subject())
    assert not request.says(None, KEY, names, about)
    assert not request.says(b"garbage", KEY, names, about)
