"""The annual key: pure decisions, and the properties that hold for every clock and history."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot.rotation import Key, Wish, choose, stem_for, year_of

UTC = datetime.timezone.utc
NOW = datetime.datetime(2027, 1, 25, tzinfo=UTC)
P256 = Key("AA", "ecdsa", "secp256r1")
P384 = Key("BB", "ecdsa", "secp384r1")
RSA4096 = Key("CC", "rsa", "4096")

moments = st.datetimes(datetime.datetime(2020, 1, 1), datetime.datetime(2040, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))
spkis = st.sampled_from(["AA", "BB", "CC", "DD"])


def test_the_key_stays_all_year():
    choice = choose(Wish(), P256, 2027, NOW)
    assert (choice.reuse_key, choice.new_key) == (True, None)


def test_the_first_renewal_of_a_new_year_takes_a_new_key():
    choice = choose(Wish(), P256, 2026, NOW)
    assert (choice.reuse_key, choice.new_key) == (True, True)
    assert "2026" in choice.reason


def test_the_year_is_utc():
    west = datetime.datetime(2026, 12, 31, 20, tzinfo=datetime.timezone(datetime.timedelta(hours=-5)))
    assert choose(Wish(), P256, 2026, west.astimezone(UTC)).new_key is True


def test_a_clock_that_ran_backwards_keeps_the_key():
    assert choose(Wish(), P256, 2028, NOW).new_key is None


def test_an_unknown_year_keeps_the_key():
    assert choose(Wish(), P256, None, NOW).new_key is None


def test_never_keeps_the_key():
    assert choose(Wish(rotation="never"), P256, 2020, NOW).new_key is None


def test_a_new_lineage_reuses_its_key_from_then_on():
    chosen = choose(Wish(), None, None, NOW)
    assert (chosen.reuse_key, chosen.new_key, chosen.key_type) == (True, None, None)


def test_no_reuse_key_leaves_everything_to_certbot():
    choice = choose(Wish(reuse_key=False), P256, 2020, NOW)
    assert (choice.reuse_key, choice.new_key, choice.key_type) == (None, None, None)


def test_new_key_is_obeyed_within_the_year():
    assert choose(Wish(new_key=True), P256, 2027, NOW).new_key is True


@pytest.mark.parametrize(
    ("wish", "current"),
    [
        (Wish(key_type="rsa"), P256),
        (Wish(key_type="ecdsa"), RSA4096),
        (Wish(elliptic_curve="secp384r1"), P256),
        (Wish(rsa_key_size=2048), RSA4096),
    ],
)
def test_another_kind_of_key_needs_a_new_one(wish, current):
    assert choose(wish, current, 2027, NOW).new_key is True


def test_kind_and_size_survive_the_new_year():
    choice = choose(Wish(), RSA4096, 2026, NOW)
    assert (choice.new_key, choice.key_type, choice.rsa_key_size) == (True, "rsa", 4096)
    choice = choose(Wish(), P384, 2026, NOW)
    assert (choice.new_key, choice.key_type, choice.elliptic_curve) == (True, "ecdsa", "secp384r1")


def test_our_record_goes_before_the_archive():
    assert year_of("AA", {"AA": 2025}, [("AA", NOW)]) == 2025


def test_the_earliest_archived_certificate_with_the_key_tells_its_year():
    history = [("AA", NOW), ("AA", NOW.replace(year=2026)), ("BB", NOW.replace(year=2025))]
    assert year_of("AA", {}, history) == 2026


def test_a_backdated_certificate_of_the_first_hour_counts_for_the_year():
    assert year_of("AA", {}, [("AA", datetime.datetime(2026, 12, 31, 23, 30, tzinfo=UTC))]) == 2027


def test_a_key_nobody_knows_has_no_year():
    assert year_of("AA", {"BB": 2026}, [("CC", NOW)]) is None


def test_second_key_of_a_year_gets_a_number():
    assert stem_for("BB", 2026, {"2026": "AA"}) == "2026-2"
    assert stem_for("CC", 2026, {"2026": "AA", "2026-2": "BB"}) == "2026-3"


@given(st.dictionaries(st.sampled_from(["2026", "2026-2", "2027"]), spkis), spkis, st.integers(2026, 2028))
def test_a_stem_never_changes_its_key(taken, spki, year):
    stem = stem_for(spki, year, taken)
    assert taken.get(stem, spki) == spki
    assert stem_for(spki, year + 1, {**taken, stem: spki}) in [s for s, k in {**taken, stem: spki}.items() if k == spki]


@given(moments, st.integers(2019, 2041), st.booleans())
def test_a_key_is_replaced_exactly_when_its_year_is_over(now, year, never):
    choice = choose(Wish(rotation="never" if never else "annual"), P256, year, now)
    assert choice.new_key is (True if year < now.year and not never else None)
    assert choice.reuse_key is True


@given(moments, moments)
def test_d11_renewals_of_any_lifetime_keep_one_key_a_year(first, second):
    """Rule D11: the decision depends on the key's year and the clock, never on a certificate's dates."""
    made = first.year
    same_year = second.year <= made
    assert (choose(Wish(), P256, made, second).new_key is None) == same_year
