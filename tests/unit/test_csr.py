"""The key of a request: one a year, of the kind that was asked for, and never lost; the clock is passed in."""

from __future__ import annotations

import datetime
import os
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certbot_dovecot import csr, files, jobs, request, state, store
from certbot_dovecot.problems import FileProblem, Problem, StateProblem
from certbot_dovecot.request import Subject
from certbot_dovecot.rotation import Wish
from certbot_dovecot.state import Options, State

NAMES = ("mail.example.org", "imap.example.org")
NOTHING, NOBODY = Wish(), Subject()
FOLDER = "mail.example.org-external"


def at(year, month=6):
    return datetime.datetime(year, month, 1, tzinfo=datetime.timezone.utc)


@pytest.fixture
def make(tmp_path):
    def make(now, wish=NOTHING, names=NAMES, about=NOBODY, chosen=None):
        options = chosen or jobs.options(str(tmp_path), FOLDER, {})
        return csr.make(str(tmp_path), FOLDER, names, about, wish, options, now)

    make.place = store.folder(jobs.home(str(tmp_path)), "", FOLDER)
    return make


def stem(made):
    return os.path.basename(made.key).removesuffix(".key")


def deploy(make, made, **more):
    """As an install would have recorded it."""
    record = State(stem=stem(made), spki=made.held.spki, servers=("Dovecot",), **more)
    files.write(make.place.state, state.dump(record))


def test_a_key_and_a_request_that_belong_together(make):
    made = make(at(2026))
    assert (stem(made), made.held.algorithm, made.held.parameter) == ("2026", "ecdsa", "secp256r1")
    assert sorted(os.listdir(make.place.path)) == ["2026.csr", "2026.key"]
    assert stat.S_IMODE(os.stat(made.key).st_mode) == 0o600
    key = load_pem_private_key(files.read(made.key), None)
    found = x509.load_pem_x509_csr(files.read(made.request))
    assert found.public_key().public_numbers() == key.public_key().public_numbers()
    assert found.is_signature_valid
    assert store.keys(make.place) == {"2026": made.held.spki}


def test_the_key_is_made_once_a_year(make):
    first = make(at(2026))
    again = make(at(2026, 12))
    assert (again.key, again.held, again.new, again.written) == (first.key, first.held, False, False)
    following = make(at(2027, 1))
    assert (stem(following), following.new) == ("2027", True)
    assert following.held.spki != first.held.spki
    assert make(at(2027, 11)).held == following.held
    assert store.history(make.place) == (
        (first.held.spki, datetime.datetime(2026, 7, 1, tzinfo=datetime.timezone.utc)),
        (following.held.spki, datetime.datetime(2027, 7, 1, tzinfo=datetime.timezone.utc)),
    )


def test_other_names_are_another_request_for_the_same_key(make):
    first = make(at(2026))
    again = make(at(2026), names=(*NAMES, "pop.example.org"))
    assert (again.held, again.new, again.written) == (first.held, False, True)
    assert make(at(2026), about=Subject(country="DE")).written


def test_new_key(make):
    first = make(at(2026))
    second = make(at(2026), Wish(new_key=True))
    assert (stem(first), stem(second), second.new) == ("2026", "2026-2", True)
    assert make(at(2026)).held == second.held
    assert os.path.exists(first.key)


def test_another_kind_is_another_key_and_each_is_found_again(make):
    first = make(at(2026))
    rsa = make(at(2026), Wish(key_type="rsa"))
    assert (stem(rsa), rsa.held.algorithm, rsa.held.parameter) == ("2026-2", "rsa", "2048")
    assert "another kind" in rsa.reason
    assert make(at(2026), Wish(key_type="ecdsa")).held == first.held
    assert make(at(2026), Wish(key_type="rsa")).held == rsa.held
    assert make(at(2026), Wish(key_type="ecdsa", elliptic_curve="secp384r1")).held.parameter == "secp384r1"
    assert sorted(store.keys(make.place)) == ["2026", "2026-2", "2026-3"]


def test_a_new_year_s_key_is_of_the_same_kind(make):
    make(at(2026), Wish(key_type="ecdsa", elliptic_curve="secp521r1"))
    assert make(at(2027)).held.parameter == "secp521r1"


def test_an_earlier_key_that_is_deployed_is_told(make):
    first = make(at(2026))
    deploy(make, first)
    assert make(at(2026)).deployed == ""
    following = make(at(2027))
    assert following.deployed == make(at(2027)).deployed == first.held.spki


def test_reuse_key_goes_on_with_the_deployed_one(make):
    first = make(at(2026))
    deploy(make, first)
    make(at(2026), Wish(new_key=True))
    kept = make(at(2028), Wish(reuse_key=True))
    assert (kept.held, kept.new, kept.deployed) == (first.held, False, "")
    assert "--reuse-key" in kept.reason
    with pytest.raises(Problem, match="another kind was asked for"):
        make(at(2028), Wish(reuse_key=True, key_type="rsa"))


def test_rotation_that_never_comes_is_remembered(make):
    first = make(at(2026))
    deploy(make, first, options=Options(key_rotation="never"))
    assert make(at(2028)).held == first.held
    assert make(at(2028), Wish(new_key=True)).new


def test_reuse_key_without_one_makes_the_first(make):
    assert make(at(2026), Wish(reuse_key=True)).new


def test_a_clock_that_ran_backwards_makes_no_key(make):
    first = make(at(2027))
    assert make(at(2026)).held == first.held


def test_a_damaged_key_is_not_replaced_in_silence(make):
    made = make(at(2026))
    with open(made.key, "wb") as file:
        file.write(b"garbage")
    with pytest.raises(Problem, match=r"2026.key: this private key cannot be read. Nothing was written.*--new-key"):
        make(at(2026))
    other = make(at(2026), Wish(new_key=True))
    assert stem(other) == "2026-2"
    assert files.read(made.key) == b"garbage"
    assert stem(make(at(2026))) == "2026-2"


def test_a_key_without_a_request_is_taken_up_by_the_next_run(make):
    """What a kill between the two leaves."""
    first = make(at(2026))
    os.unlink(first.request)
    again = make(at(2026))
    assert (again.held, again.new, again.written) == (first.held, False, True)


def test_a_damaged_record_stops_it(make):
    files.make_directory(make.place.path)
    files.write(make.place.state, b"{")
    with pytest.raises(StateProblem, match="damaged"):
        make(at(2026), chosen=Options())
    assert os.listdir(make.place.path) == ["state.json"]


def test_the_store_that_was_chosen(make, tmp_path):
    made = make(at(2026), chosen=Options(store=str(tmp_path / "elsewhere")))
    assert made.key == str(tmp_path / "elsewhere" / FOLDER / "2026.key")


def test_a_disk_that_cannot_be_written(make):
    files.make_directory(os.path.dirname(make.place.path))
    files.write(make.place.path, b"a file where the folder should be")
    with pytest.raises(FileProblem):
        make(at(2026))


def test_the_request_is_for_the_key_in_the_file(make):
    made = make(at(2026), Wish(key_type="rsa", rsa_key_size=3072))
    key = load_pem_private_key(files.read(made.key), None)
    assert key.key_size == 3072
    assert request.says(files.read(made.request), key, NAMES, Subject())


def test_the_name_of_the_folder(tmp_path):
    assert csr.folder_name(str(tmp_path), ("*.example.org", "b.org")) == "example.org-external"
    assert csr.folder_name(str(tmp_path), (), "mail") == csr.folder_name(str(tmp_path), (), "mail-external") == "mail-external"
    for bad in ("a/b", "..", ".", "-external", "/etc"):
        with pytest.raises(Problem, match="not a name for a lineage"):
            csr.folder_name(str(tmp_path), (), bad)
