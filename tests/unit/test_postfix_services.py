"""Which services of master.cf are meant, what they name, and what would win over it."""

from __future__ import annotations

import pytest

from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers import master_cf, postfix_services
from certbot_dovecot.servers.contract import Claim, Pair
from certbot_dovecot.servers.postfix_services import PROXY, Main, Named, Part

PLAIN = "smtp inet n - y - - smtpd\n"
SUBMISSION = """\
submission inet n - y - - smtpd
465 inet n - y - - smtpd
10465 inet n - y - - smtpd
  -o smtpd_tls_wrappermode=yes
"""
POSTSCREEN = """\
smtp inet n - y - 1 postscreen
smtpd pass - - y - - smtpd
mine pass - - y - - smtpd
tlsproxy unix - - y - 0 tlsproxy
smtp unix - - y - - smtp
"""
OURS = "regexp:/t"
NEW, OLD = Pair("/n.pem", "/n.key"), Pair("/o.pem", "/o.key")


def parse(text):
    return master_cf.parse(text.encode(), "master.cf")


def main(**values):
    """A main.cf with nothing but these."""
    return Main(values, "".join(f"{name} = {value}\n" for name, value in values.items()), lambda name: values.get(name, ""))


def chosen(words, text, conf=None):
    services = postfix_services.chosen(words, parse(text), conf or main(), "master.cf")
    return [[one.entry.name, *(f"{part.prefix}{part.entry.name}" for part in one.parts)] for one in services]


@pytest.mark.parametrize("words", ["submission", " Submission "])
def test_submission_never_takes_port_25(words):
    names = [name for name, *_ in chosen(words, PLAIN + POSTSCREEN + SUBMISSION)]
    assert names == ["submission", "465", "10465"]
    assert chosen(words, PLAIN + "  -o smtpd_tls_wrappermode=yes\n") == []


def test_all_takes_port_25_too():
    more = "[::1]:25 inet n - y - - smtpd\n2525 inet n - y - - smtpd\n"
    names = [name for name, *_ in chosen("all", more + PLAIN + SUBMISSION)]
    assert names == ["[::1]:25", "smtp", "submission", "465", "10465"]
    assert chosen("all", "smtp inet n - y - - other\n") == []


@pytest.mark.parametrize("words", ["all", "smtp", "smtp, smtp"])
def test_postscreen_stands_for_what_is_behind_it(words):
    found = chosen(words, POSTSCREEN)
    assert found[0] == ["smtp", "smtpd_tls_smtpd", "tlsproxy_tls_tlsproxy"]
    own = POSTSCREEN.replace("postscreen\n", "postscreen\n  -o smtpd_service_name=mine\n")
    assert chosen(words, own)[0] == ["smtp", "smtpd_tls_mine", "tlsproxy_tls_tlsproxy"]
    assert chosen(words, POSTSCREEN, main(tlsproxy_service_name="elsewhere"))[0] == ["smtp", "smtpd_tls_smtpd"]
    assert chosen(words, PLAIN)[0] == ["smtp", "smtpd_tls_smtp"]


def test_a_name_that_is_not_there():
    with pytest.raises(ConfProblem, match="no service tlsproxy of type inet"):
        chosen("tlsproxy", POSTSCREEN)


def part(options="", prefix=PROXY):
    return Part(parse(f"tlsproxy unix - - y - 0 tlsproxy\n  {options}\n")[0], prefix)


@pytest.mark.parametrize(
    ("options", "conf", "named"),
    [
        ("", {"smtpd_tls_cert_file": "/o.pem", "smtpd_tls_key_file": "/o.key"}, Named(OLD)),
        ("-o smtpd_tls_cert_file=/n.pem -o smtpd_tls_key_file=/n.key", {"smtpd_tls_cert_file": "/o.pem"}, Named(NEW)),
        ("-o smtpd_tls_cert_file=/n.pem -o smtpd_tls_key_file=/n.key",
         {"tlsproxy_tls_cert_file": "/o.pem", "tlsproxy_tls_key_file": "/o.key"}, Named(OLD)),
        ("-o tlsproxy_tls_cert_file=$mine", {"mine": "/both.pem"}, Named(Pair("/both.pem", "/both.pem"))),
        ("-o tlsproxy_tls_cert_file=/n.pem", {"smtpd_tls_chain_files": "/c.pem"}, Named(None, "/c.pem")),
        ("-o tlsproxy_tls_cert_file=/n.pem",
         {"tlsproxy_tls_eccert_file": "/o.pem", "tlsproxy_tls_eckey_file": "/o.key"}, Named(OLD)),
        ("-o tls_server_sni_maps=regexp:/t", {"tls_server_sni_maps": "a:b"}, Named(None, "", (OURS,))),
    ],
)  # fmt: skip
def test_what_tlsproxy_serves(options, conf, named):
    """As measured (docs/measured.rst)."""
    assert postfix_services.named(part(options), main(**conf)) == named


@pytest.mark.parametrize(
    ("options", "conf", "cleared"),
    [
        ("", {"smtpd_tls_cert_file": "/o.pem"}, {}),
        ("", {"smtpd_tls_chain_files": "/c.pem"}, {"tlsproxy_tls_chain_files": ""}),
        ("", {"tlsproxy_tls_chain_files": "/c.pem"}, {"tlsproxy_tls_chain_files": ""}),
        ("-o smtpd_tls_chain_files=", {"smtpd_tls_chain_files": "/c.pem"}, {}),
        ("-o smtpd_tls_chain_files=", {"tlsproxy_tls_chain_files": "/c.pem"}, {"tlsproxy_tls_chain_files": ""}),
        ("-o tlsproxy_tls_eckey_file=/k", {}, {"tlsproxy_tls_eckey_file": ""}),
        ("", {"tls_server_sni_maps": "a:b"}, {"tls_server_sni_maps": f"{OURS},a:b"}),
        ("", {"tls_server_sni_maps": f"a:b, {OURS}"}, {"tls_server_sni_maps": f"{OURS},a:b"}),
        ("", {"tls_server_sni_maps": "inline:{ {a.test = /k, /c} }"},
         {"tls_server_sni_maps": f"{OURS},inline:{{ {{a.test = /k, /c}} }}"}),
        ("-o tls_server_sni_maps=regexp:/t", {}, {}),
    ],
)  # fmt: skip
def test_what_is_cleared_on_tlsproxy(options, conf, cleared):
    assert postfix_services.cleared(part(options), main(**conf), OURS) == cleared


def test_a_mere_default_is_not_cleared():
    conf = Main({"smtpd_tls_eccert_file": "/e", "smtpd_tls_eckey_file": "/e"}, "smtpd_tls_eccert_file = /e\n", lambda name: "")
    assert postfix_services.cleared(part(), conf, OURS) == {"tlsproxy_tls_eccert_file": ""}


def test_whether_two_serve_a_client_the_same():
    by_name = Pair("/name.pem", "/name.key")
    with_table, without = Named(NEW, maps=(OURS,)), Named(NEW)
    assert with_table.same(without, OURS, None)
    assert not with_table.same(without, OURS, by_name)
    assert with_table.same(Named(OLD, maps=(OURS, "a:b")), OURS, by_name)
    assert not with_table.same(Named(NEW, maps=(OURS, "a:b")), OURS, None)
    assert not Named(None, "/a").same(Named(None, "/b"), OURS, None)


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({}, []),
        ({"smtp_tls_cert_file": "/else.pem"}, []),
        ({"smtp_tls_cert_file": "/o.pem"}, ["smtp_tls_cert_file in main.cf shows /o.pem"]),
        ({"smtp_tls_eccert_file": "/ours.pem"}, ["smtp_tls_eccert_file in main.cf shows /ours.pem"]),
        ({"smtp_tls_chain_files": "/x, /c.pem", "smtpd_tls_chain_files": "/c.pem"},
         ["smtp_tls_chain_files in main.cf shows /c.pem"]),
    ],
)  # fmt: skip
def test_client_certificates(conf, said):
    found = main(smtpd_tls_cert_file="/o.pem", **conf)
    services = postfix_services.chosen("all", parse(PLAIN), found, "master.cf")
    notes = postfix_services.client_notes(Claim(NEW, ("a.test",), owns=lambda path: path == "/ours.pem"), services, found)
    assert [note.split("Postfix: ")[1].split(" to other")[0] for note in notes] == said


THEIRS = "texthash:/s"


@pytest.mark.parametrize(
    ("maps", "entry", "has", "won"),
    [
        ([], None, {}, None),
        ([OURS, THEIRS], NEW, {"a.b.test": "/x"}, None),
        ([THEIRS, OURS], NEW, {"a.b.test": "/x"}, (THEIRS, "/x")),
        ([OURS, THEIRS], None, {"a.b.test": "/x"}, (THEIRS, "/x")),
        # All are asked for the whole name first.
        ([THEIRS, OURS], NEW, {".b.test": "/x"}, None),
        ([OURS, THEIRS], None, {".b.test": "/x", ".test": "/y"}, (THEIRS, "/x")),
        ([OURS, THEIRS], None, {".test": "/y"}, (THEIRS, "/y")),
        ([THEIRS], NEW, {"b.test": "/x"}, None),
    ],
)
def test_which_table_has_the_certificate(maps, entry, has, won):
    def look_up(table, name):
        assert (table, name) == (THEIRS, "a.b.test")
        return has

    assert postfix_services.winner(maps, OURS, "a.b.test", entry, look_up) == won


def test_what_a_table_is_asked_for():
    assert postfix_services.name_keys("a.b.test") == ["a.b.test", ".b.test", ".test"]
    assert postfix_services.name_keys("localhost") == ["localhost"]


def test_where_tables_are_named():
    here = Part(parse("smtp inet n - y - - smtpd\n\n465 inet n - y - - smtpd\n  -o tls_server_sni_maps=a:b\n")[1])
    data = b"smtp inet n - y - - smtpd\n\n465 inet n - y - - smtpd\n  -o tls_server_sni_maps=a:b\n"
    assert postfix_services.maps_place(here, main(), data, "/r") == "/r/master.cf:4"
    there = Part(parse(PLAIN)[0])
    conf = Main({}, "x = 1\ntls_server_sni_maps = a:b\n#tls_server_sni_maps = c:d\n", lambda name: "")
    assert postfix_services.maps_place(there, conf, PLAIN.encode(), "/r") == "/r/main.cf:2"
    assert postfix_services.maps_place(there, main(), PLAIN.encode(), "/r") == "/r/main.cf"


@pytest.mark.parametrize(
    ("conf", "others"),
    [
        ({"smtpd_tls_chain_files": "/k.key, /c.pem"}, ("/k.key", "/c.pem")),
        ({"smtpd_tls_eccert_file": "/e.pem", "smtpd_tls_cert_file": "/r.pem"}, ("/r.pem",)),
        ({"smtpd_tls_eccert_file": "/e.pem"}, ()),
        ({"smtpd_tls_cert_file": "/r.pem"}, ()),
    ],
)
def test_certificates_beside_the_pair(conf, others):
    assert postfix_services.named(Part(parse(PLAIN)[0]), main(**conf)).others == others


def test_the_files_in_a_value():
    assert postfix_services.paths("/k.key /c.pem,/d.pem") == ("/k.key", "/c.pem", "/d.pem")
    # What postmap -F puts into an indexed table.
    assert postfix_services.paths("LS0tLS1CRUdJTiBQUklW") == ()
