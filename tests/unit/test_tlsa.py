"""TLSA data: what is emitted, and above all what is not."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot.dane import tlsa

OLD, NEW = "A" * 64, "B" * 64
ports = st.dictionaries(st.integers(1, 65535), st.lists(st.sampled_from([OLD, "C" * 64]), unique=True, max_size=2))
hosts = st.lists(st.sampled_from(["mail.example.org", "*.example.org", "192.0.2.1", "2001:db8::1", "IMAP.example.org"]))


def test_one_record_for_each_host_and_port():
    made = tlsa.records(["mail.example.org", "imap.example.org"], {993: [OLD], 465: [OLD]})
    assert [str(record) for record in made] == [
        f"_465._tcp.imap.example.org. 3600 IN TLSA 3 1 1 {OLD}",
        f"_465._tcp.mail.example.org. 3600 IN TLSA 3 1 1 {OLD}",
        f"_993._tcp.imap.example.org. 3600 IN TLSA 3 1 1 {OLD}",
        f"_993._tcp.mail.example.org. 3600 IN TLSA 3 1 1 {OLD}",
    ]


def test_the_next_key_comes_beside_the_served_one_and_is_marked():
    made = tlsa.records(["mail.example.org"], {993: [OLD]}, NEW)
    assert [(record.spki, record.status) for record in made] == [(OLD, "served"), (NEW, "next")]
    lines = tlsa.zone("mail", made, ["mail.example.org"]).decode().splitlines()
    assert lines[-1].endswith("; next key, not served yet")


def test_a_wildcard_is_a_comment_and_an_address_is_nothing():
    names, served = ["*.example.org", "192.0.2.1"], {993: [OLD]}
    lines = tlsa.zone("x", tlsa.records(names, served), names, tlsa.patterns(names, served, NEW)).decode().splitlines()
    assert all(line.startswith(";") for line in lines)
    assert f";   _993._tcp.*.example.org. 3600 IN TLSA 3 1 1 {OLD}" in lines
    assert f";   _993._tcp.*.example.org. 3600 IN TLSA 3 1 1 {NEW}  ; next key, not served yet" in lines
    # An endpoint was seen serving the key, so that the file must not say otherwise.
    assert not any("No endpoint" in line for line in lines)


@given(hosts, ports, st.sampled_from(["", NEW]))
def test_d2_and_r5_hold_for_everything(names, served, following):
    made = tlsa.records(names, served, following)
    for record in made:
        port = int(record.owner.split(".")[0][1:])
        if record.status == tlsa.SERVED:
            assert record.spki in served[port]
        else:
            assert any(o.status == tlsa.SERVED and o.owner == record.owner for o in made)
    assert len(set(made)) == len(made)
    assert not any("*" in record.owner or "192.0.2.1" in record.owner for record in made)


@given(hosts, ports)
def test_zone_file_and_json_say_the_same_and_a_dns_library_reads_them(names, served):
    import dns.zone

    made = tlsa.records(names, served)
    parsed = json.loads(tlsa.as_json("x", made))["records"]
    assert [entry["owner"] for entry in parsed] == [record.owner for record in made]
    zone = dns.zone.from_text(tlsa.zone("x", made, names).decode(), origin=".", relativize=False, check_origin=False)
    found = {
        (str(name), rdata.to_text().upper()) for name, node in zone.items() for rdataset in node for rdata in rdataset
    }
    assert found == {(entry["owner"], entry["rdata"]) for entry in parsed}
