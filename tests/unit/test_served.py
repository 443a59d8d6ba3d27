"""What is found in certificates that endpoints serve and that are not ours."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import bundle as bundles
from certbot_dovecot import health, show, store
from certbot_dovecot.health import DAY
from certbot_dovecot.monitoring import findings
from certbot_dovecot.monitoring.keepers import Keeper, Keepers, Kind, origin
from certbot_dovecot.monitoring.model import Asked, Grade, Status
from certbot_dovecot.servers.contract import Table
from tests.lab import ca as authorities
from tests.unit.test_health import IMAPS, NAME, NOW, installed, leaf, plain

OTHER = "other.example.org"
LINEAGE, EXTERNAL, DELETED = (Keeper(kind, OTHER) for kind in Kind)


def served(left=60.0, keeper=None, own=False, **more):
    """An endpoint without a name of ours that serves a certificate of another name."""
    given = {"path": "/etc/ssl/other.pem", "places": ("/etc/dovecot/x.conf:3",), **more}
    return Asked(IMAPS, "", leaf=replace(leaf(left, digest="E" * 64, names=(OTHER,)), self_signed=own), keeper=keeper, **given)


def of(*endpoints, lineages=None, **more):
    return findings.of(Status(NOW, (installed(),) if lineages is None else tuple(lineages), endpoints, **more))


def test_a_certificate_of_the_admins_own_is_no_finding():
    assert of(served()) == ()
    assert of(served(keeper=LINEAGE), served(keeper=EXTERNAL)) == ()


@pytest.mark.parametrize(
    ("keeper", "more", "todo"),
    [
        (None, {}, "Have the configuration name another certificate instead (/etc/dovecot/x.conf:3), then doveadm reload"),
        (None, {"heals": NAME}, f"certbot install --installer dovecot --cert-name {NAME} puts its certificate there"),
        (LINEAGE, {}, f"certbot renew --cert-name {OTHER} says why"),
        (replace(LINEAGE, newest=False), {}, f"certbot has a newer one; name its live/{OTHER}/fullchain.pem and privkey.pem"),
        (
            replace(LINEAGE, newest=False),
            {"path": f"/etc/letsencrypt/live/{OTHER}/fullchain.pem"},
            "certbot has a newer one, and doveadm reload has it read again",
        ),
        (EXTERNAL, {}, "Get a new one: certbot-dovecot csr"),
    ],
)
@pytest.mark.parametrize(
    ("left", "grade", "what"), [(20, 1, "that expires on"), (3, 2, "in 3 days"), (-1, 2, "that expired on")]
)
def test_what_is_near_its_end_is_told_with_the_remedy_of_whoever_renews_it(keeper, more, todo, left, grade, what):
    [one] = of(served(left, keeper, **more))
    assert (one.grade, one.lineage) == (Grade(grade), NAME)
    assert f"serves a certificate of {OTHER} that" in one.what
    assert what in one.what
    assert one.todo.startswith(todo)


def test_one_whose_lineage_is_deleted_is_told_at_once():
    [one] = of(served(keeper=DELETED))
    assert (one.grade, one.lineage) == (Grade.WARNING, OTHER)
    assert "doveadm reload makes it serve what its configuration names" in one.todo
    # Where the configuration names it, the lineage itself is the finding.
    lost = installed(lost=True)
    [one] = of(Asked(IMAPS, NAME, "", "D" * 64, leaf(), keeper=replace(DELETED, name=NAME)), lineages=[lost])
    assert f"certbot --installer dovecot --cert-name {NAME} -d {NAME}" in one.todo
    [one] = of(lineages=[replace(lost, leaf=leaf(-1))])[:1]
    assert (one.grade, "certbot renew" in one.todo) == (Grade.CRITICAL, False)
    # It is not served any more, and something good is.
    assert of(served(), lineages=[replace(lost, withdrawn=("Dovecot",))]) == ()


def test_a_self_signed_one_is_told_where_ours_is_or_was():
    assert [one.grade for one in of(served(own=True), lineages=[])] == [Grade.UNKNOWN]
    assert of(served(own=True), lineages=[installed(servers=("Postfix",))]) == ()
    [one] = of(served(own=True))
    assert "self-signed" in one.what
    assert "undo" not in one.todo
    [one] = of(served(own=True, heals=NAME), lineages=[installed(servers=("Postfix",))], once=(("Dovecot", installed()),))
    assert one.todo.startswith(f"certbot install --installer dovecot --cert-name {NAME}")
    assert one.todo.endswith(f"if it is meant, certbot-dovecot undo {NAME}")
    for more, todo in (({"lost": True}, "certbot --installer dovecot"), ({"external": True}, "certbot-dovecot install-cert")):
        once = (("Dovecot", installed(servers=(), **more)),)
        [one] = of(served(own=True), lineages=[installed(servers=("Postfix",))], once=once)
        assert todo in one.todo


def test_a_name_that_gets_a_certificate_of_other_names():
    wrong = served(sni=NAME, whose=NAME)
    assert not wrong.right
    [one] = of(wrong, replace(wrong, endpoint=replace(IMAPS, port=995)), replace(wrong, sni="b.test"))
    assert (one.grade, one.lineage) == (Grade.WARNING, NAME)
    assert "[::1]:993 (TLS), Dovecot imap [::1]:995 (TLS), asked for mail.example.org, b.test, serves" in one.what
    assert "/etc/dovecot/x.conf:3" in one.todo
    [one] = of(replace(wrong, heals=NAME))
    assert one.todo.startswith(f"certbot install --installer dovecot --cert-name {NAME}")
    # Whoever's it is, it is for the name.
    assert of(replace(wrong, leaf=leaf(digest="E" * 64, names=("*.example.org",)))) == ()


def test_a_table_of_the_admins_that_decides():
    table = Table("texthash:/t", "/etc/postfix/main.cf:7")
    wrong = served(sni=NAME, whose=NAME, table=table)
    [one] = of(wrong, replace(wrong, endpoint=replace(IMAPS, port=995)))
    assert "not for that name: texthash:/t has one for it, and is asked before the certificate that is installed" in one.what
    assert one.what.endswith("(/etc/postfix/main.cf:7)")
    assert one.todo.startswith("Take that out of texthash:/t, then")
    [one] = of(replace(wrong, heals=NAME))
    assert one.todo.startswith(f"certbot install --installer dovecot --cert-name {NAME}, which puts a table with it before")
    assert findings.tables(Status(NOW, (), (wrong,))) == ()
    # A good one for the name is no finding, and is said.
    good = replace(wrong, leaf=leaf(digest="E" * 64), heals=NAME)
    assert of(good) == ()
    [note] = findings.tables(Status(NOW, (), (good, replace(good, endpoint=replace(IMAPS, port=995)))))
    assert f"993 (TLS), Dovecot imap [::1]:995 (TLS), asked for {NAME}: texthash:/t has one for it" in note
    assert f"To have ours served: certbot install --installer dovecot --cert-name {NAME}, which" in note
    assert note.endswith(".")


def test_an_alternative_that_takes_the_place_of_ours():
    """To deploy again would not help."""
    wrong = Asked(IMAPS, NAME, "", "D" * 64, leaf(digest="E" * 64), places=("/etc/dovecot/x.conf:3",))
    assert ["certbot-dovecot deploy" in one.todo for one in of(wrong)] == [True]
    [one] = of(replace(wrong, instead="/alt.pem"))
    assert (one.grade, one.lineage) == (Grade.CRITICAL, NAME)
    assert one.what.endswith("which /alt.pem has, an alternative that takes its place")
    assert one.todo == "Take that pair out of the configuration (/etc/dovecot/x.conf:3), then doveadm reload"


def test_a_table_that_may_not_be_read():
    for path, more in (("/etc/postfix/certbot-dovecot-sni", True), ("hash:/etc/postfix/sni", False)):
        [one] = of(lineages=[installed(servers=("Postfix",))], unread=(("Postfix", path),))
        assert one.grade is Grade.UNKNOWN
        assert one.what == f"what Postfix serves by name could not be judged: {path} may not be read by this user"
        assert one.todo.startswith("Run this as root")
        assert (f"certbot-dovecot deploy {NAME}, which opens it to all" in one.todo) is more


def test_what_no_server_names_is_not_brought_there():
    """Deploy does nothing for a lineage whose files no configuration names: to install it again does."""
    newer = installed(live="E" * 64)
    assert ["deploy" in one.todo for one in of(lineages=[newer])] == [True]
    assert ["deploy" in one.todo for one in of(lineages=[replace(newer, withdrawn=newer.servers)])] == [False]


CONDITIONS = st.tuples(
    st.sampled_from([None, LINEAGE, EXTERNAL, DELETED, replace(LINEAGE, newest=False)]),
    st.floats(-50, 100),
    st.booleans(),
    st.sampled_from([(), ("Dovecot",), ("Postfix",)]),
    st.booleans(),
    st.sampled_from(["", NAME]),
)


@given(CONDITIONS)
def test_what_clients_cannot_trust_is_never_silent(conditions):
    """Expired, of a deleted lineage, not for the name, self-signed where ours was: whatever else is so."""
    keeper, left, own, servers, dropped, sni = conditions
    one = served(left, keeper, own, sni=sni, whose=sni)
    once = (("Dovecot", installed()),) if dropped else ()
    found = of(one, lineages=[installed(servers=servers)] if servers else [], once=once)
    told = [each for each in found if str(IMAPS) in each.what]
    bad = left < 0 or keeper is DELETED or sni or (own and keeper is None and (dropped or "Dovecot" in servers))
    assert bool(told) == bool(bad or left < 90 / 4)
    assert all(each.todo for each in told)
    if left < 0 and keeper is not DELETED:
        assert health.grade(found) is Grade.CRITICAL


def test_how_it_is_shown():
    known = (installed(looked_up=True),)
    status = Status(NOW, known, (served(own=True, sni=NAME, whose=NAME, keeper=EXTERNAL),), unasked=7, dns=True)
    [row] = [line for line in show.table(status, (), plain).splitlines() if line.startswith("993")]
    assert "other.example.org, until 2027-01-23, self-signed" in row
    assert show.table(status, (), plain).endswith(
        "No fault was found in what was looked at. Not looked at: 7 combinations of name and endpoint (--all asks them)."
    )
    document = json.loads(show.as_json(status, ()))
    [one] = document["endpoints"]
    assert (one["right"], one["for_its_name"], one["renewed_by"]) == (False, False, {"kind": "external", "name": OTHER})
    assert one["serves"]["self_signed"]
    assert document["unasked"] == 7
    line = show.nagios(replace(status, endpoints=()), ())
    assert "; not looked at: 7 combinations of name and endpoint (--all asks them) |" in line
    assert " wrong_endpoints=1;" in show.nagios(replace(status, endpoints=status.endpoints * 3), ())


# Who renews it.


def write(path, made):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.fullchain_pem)
    return bundles.digest_of(made.cert)


CONF = "".join(f"{one} = {{0}}/live/{{1}}/{one}.pem\n" for one in ("cert", "privkey", "chain", "fullchain"))


def test_who_renews_a_certificate(tmp_path):
    authority = authorities.CA.make()
    old, new, gone, bought, strange = (authority.leaf([name]) for name in ("a.test", "a.test", "b.test", "c.test", "d.test"))
    (tmp_path / "renewal").mkdir()
    (tmp_path / "renewal" / "a.conf").write_text(CONF.format(tmp_path, "a"))
    old_digest = write(tmp_path / "archive/a/cert1.pem", old)
    new_digest = write(tmp_path / "archive/a/cert2.pem", new)
    write(tmp_path / "live/a/cert.pem", new)
    gone_digest = write(tmp_path / "dovecot/b/2026.pem", gone)
    external = f"c{store.EXTERNAL}"
    bought_digest = write(tmp_path / "dovecot" / external / "2026.pem", bought)
    keepers = Keepers(str(tmp_path), {str(tmp_path / "dovecot" / name): name for name in ("a", "b", external)})
    assert keepers.of(new_digest) == Keeper(Kind.LINEAGE, "a")
    assert keepers.of(old_digest) == Keeper(Kind.LINEAGE, "a", newest=False)
    assert keepers.of(gone_digest) == Keeper(Kind.DELETED, "b")
    assert keepers.of(bought_digest) == Keeper(Kind.EXTERNAL, external)
    unknown = bundles.digest_of(strange.cert)
    assert keepers.of(unknown) is None
    # What is not found by what it is, is found by where it lies.
    assert keepers.of(unknown, str(tmp_path / "live/a/fullchain.pem")) == Keeper(Kind.LINEAGE, "a", newest=False)
    assert keepers.of(unknown, str(tmp_path / "dovecot/b/2026.pem")) == Keeper(Kind.DELETED, "b")
    assert keepers.of(unknown, "/etc/ssl/d.pem") is None


def test_which_file_a_certificate_is_from(tmp_path):
    made = authorities.CA.make().leaf(["a.test"])
    digest = write(tmp_path / "cert.pem", made)
    here, away = str(tmp_path / "cert.pem"), str(tmp_path / "none.pem")
    assert origin([], digest) == ""
    assert origin([away], digest) == away
    assert origin([here, away], digest) == origin([away, here], "E" * 64) == here


def test_what_is_self_signed():
    assert bundles.is_self_signed(authorities.self_signed("a.test").cert)
    assert not bundles.is_self_signed(authorities.CA.make().leaf(["a.test"]).cert)


@pytest.mark.parametrize(
    ("names", "name", "expected"),
    [
        (["a.test"], "A.test", True),
        (["*.A.test"], "b.a.test", True),
        (["*.a.test"], "a.test", False),
        (["*.a.test"], "c.b.a.test", False),
        (["*.a.test"], "*.a.test", True),
        ([], "a.test", False),
    ],
)
def test_what_a_certificate_is_for(names, name, expected):
    assert bundles.covers(names, name) is expected


def test_the_limits_are_those_of_ours():
    one = leaf(20)
    assert health.ends_soon(one, Status(NOW)) is Grade.WARNING
    assert health.ends_soon(one, Status(NOW, warning=datetime.timedelta(days=1))) is None
    assert health.ends_soon(one, Status(NOW, critical=DAY * 30)) is Grade.CRITICAL
