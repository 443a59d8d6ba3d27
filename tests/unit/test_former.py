"""What configuration files were before, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from certbot_dovecot import former
from certbot_dovecot.files import Edit
from certbot_dovecot.former import Conflict, Former
from certbot_dovecot.problems import StateProblem

PATH = "/etc/dovecot/dovecot.conf"
BEFORE = b"# head\nssl = yes\nssl_cert = </old.pem\nssl_key = </old.key\nprotocols = imap\n"
AFTER = BEFORE.replace(b"old", b"store/2026")


def test_to_the_byte_where_nobody_edited_it():
    assert former.revert(AFTER, Former(BEFORE, AFTER)) == BEFORE
    assert former.revert(b"ours", Former(None, b"ours")) is None
    assert former.revert(None, Former(b"theirs", None)) == b"theirs"


def test_an_admins_edits_elsewhere_stay():
    now = b"mail_debug = yes\n" + AFTER.replace(b"protocols = imap\n", b"protocols = imap pop3\n") + b"# foot"
    expected = b"mail_debug = yes\n" + BEFORE.replace(b"protocols = imap\n", b"protocols = imap pop3\n") + b"# foot"
    assert former.revert(now, Former(BEFORE, AFTER)) == expected


def test_it_is_there_already():
    assert former.revert(BEFORE, Former(BEFORE, AFTER)) == BEFORE


def test_lines_of_ours_that_were_edited_are_a_conflict_that_shows_what_was_before():
    with pytest.raises(Conflict) as caught:
        former.revert(AFTER.replace(b"2026.pem", b"other.pem"), Former(BEFORE, AFTER))
    assert caught.value.before == b"ssl_cert = </old.pem\nssl_key = </old.key\n"
    assert b"2026.key" in caught.value.ours


def test_what_another_wrote_between_our_lines_stays():
    before = b"465 inet\n  -o a\n587 inet\n  -o a\n"
    after = b"465 inet\n  -o a\n  -o cert=x\n  -o key=x\n587 inet\n  -o a\n  -o cert=x\n  -o key=x\n"
    now = after.replace(b"  -o cert=x\n", b"  -o cert=x\n  -o maps=y\n")
    assert former.revert(now, Former(before, after)) == before.replace(b"  -o a\n", b"  -o a\n  -o maps=y\n")


def test_pieces_that_others_need_stay():
    before, after = b"a\n", b"a\n!include_try certbot-dovecot-sni.conf\nb = ours\n"
    kept = former.revert(after, Former(before, after), lambda lines: b"certbot-dovecot-sni" in lines)
    assert kept == before + b"!include_try certbot-dovecot-sni.conf\n"
    # Where they stood in the place of something, that comes back before them: of an option given twice, the last counts.
    before, after = b"s\n  -o cert=old\n  -o maps=b\nt\n", b"s\n  -o cert=new\n  -o maps=sni,b\nt\n"
    kept = former.revert(after, Former(before, after), lambda lines: b"sni" in lines)
    assert kept == b"s\n  -o cert=old\n  -o maps=b\n  -o maps=sni,b\nt\n"
    assert former.revert(kept, Former(before, kept)) == before


def test_following_our_own_edits_keeps_the_first_bytes():
    one = former.followed({}, [Edit(PATH, BEFORE, AFTER)])
    newer = AFTER.replace(b"2026", b"2027")
    assert former.followed(one, [Edit(PATH, AFTER, newer)]) == {PATH: Former(BEFORE, newer)}
    # An edit of the admin's in between stays when all is undone.
    edited, both = AFTER + b"# mine\n", newer + b"# mine\n"
    assert former.followed(one, [Edit(PATH, edited, both)]) == {PATH: Former(BEFORE + b"# mine\n", both)}
    # Taken out by hand, and installed again: what was there then is what was before.
    other = b"ssl_cert = </mine.pem\n"
    assert former.followed(one, [Edit(PATH, other, AFTER)]) == {PATH: Former(other, AFTER)}
    assert former.followed(one, [Edit(PATH, AFTER, BEFORE)]) == {}


def test_the_record(tmp_path):
    path = str(tmp_path / "former.json")
    assert former.load(path) == {}
    known = {PATH: Former(BEFORE, AFTER + b"\xff"), "/x": Former(None, b"")}
    (tmp_path / "former.json").write_bytes(former.dump(known))
    assert former.load(path) == known


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format": 2, "files": {}}', b'{"format": 1, "files": {"x": {}}}',
                                  b'{"format": 1, "files": {"x": {"before": "?", "after": null}}}'])  # fmt: skip
def test_a_damaged_record(tmp_path, data):
    (tmp_path / "former.json").write_bytes(data)
    with pytest.raises(StateProblem) as caught:
        former.load(str(tmp_path / "former.json"))
    assert "Nothing was changed" in str(caught.value)


TEXT = st.lists(st.sampled_from([b"a\n", b"b\n", b"}\n", b"\n", b"c\r\n"]), max_size=12).map(b"".join)


@given(TEXT, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=3), TEXT, TEXT)
def test_lines_of_ours_go_and_nothing_else(before, cuts, head, foot):
    """Whatever is written above and below, going back gives the bytes of before."""
    lines = before.splitlines(keepends=True)
    for number, (at, gone) in enumerate(sorted(cuts, reverse=True)):
        lines[at : at + gone] = [b"ours %d\n" % number]
    after = b"".join(lines)
    assert former.revert(head + after + foot, Former(before, after)) == head + before + foot


@given(TEXT, TEXT, st.integers(0, 12), st.integers(1, 3))
def test_lines_that_we_took_out_come_back_or_it_is_refused(before, head, at, count):
    lines = before.splitlines(keepends=True)
    after = b"".join(lines[:at] + lines[at + count :])
    assume(head + after != before)
    try:
        now = former.revert(head + after, Former(before, after))
    except Conflict:
        return
    assert now is not None
    assert sorted(now.splitlines(keepends=True)) == sorted((head + before).splitlines(keepends=True))
