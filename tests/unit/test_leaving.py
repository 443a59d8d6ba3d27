"""What is said when the package is removed."""

from __future__ import annotations

import datetime

from certbot_dovecot.leaving import Use, farewell, uses

UNTIL = datetime.datetime(2027, 2, 23, 0, 14, tzinfo=datetime.timezone.utc)
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/certbot-dovecot"


def no_command(command):
    raise AssertionError(f"{command} was run, though nothing is installed")


def test_nothing_in_use_is_nothing_to_say():
    assert farewell((), HOOK) == ()


def test_without_records_no_server_is_asked(tmp_path):
    assert uses(str(tmp_path), no_command) == ()


def test_each_certificate_with_its_end_and_the_way_back():
    both = Use("a.example", "/store/a.example", ("Dovecot", "Postfix"), UNTIL)
    one = Use("b.example", "/store/b.example", ("Dovecot",))
    first, second, *rest = farewell((both, one), HOOK)
    assert first == "Dovecot and Postfix still serve a.example from /store/a.example, which ends on 2027-02-23 00:14 UTC"
    assert second == "Dovecot still serves b.example from /store/b.example"
    assert "certbot-dovecot undo a.example; certbot-dovecot undo b.example" in " ".join(rest)
    assert HOOK in " ".join(rest)


def test_a_record_that_cannot_be_read_is_doubt_and_not_silence(tmp_path):
    folder = tmp_path / "dovecot" / "a.example"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{")
    [use] = uses(str(tmp_path), no_command)
    assert use.servers == ()
    assert "this record is damaged" in use.doubt
    assert farewell((use,), HOOK)[0].startswith(f"A server may still serve a.example from {folder}; it cannot be told: ")
