"""A transaction undoes everything it did, and nothing that someone else did."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_dovecot import files
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import Changed, FileProblem
from certbot_dovecot.transaction import NoCheckpoint, Transaction


class Kept:
    """A checkpoint that remembers what it was told."""

    def __init__(self):
        self.saved = []
        self.discarded = 0

    def save(self, paths, new, title):
        self.saved.append((list(paths), list(new), title))

    def discard(self):
        self.discarded += 1


contents = st.none() | st.binary(max_size=5)


@given(st.lists(st.tuples(st.sampled_from("abc"), contents), max_size=8))
def test_undo_brings_every_byte_back(tmp_path_factory, steps):
    root = tmp_path_factory.mktemp("t")
    (root / "a").write_bytes(b"was here")
    before = {name: files.read_if_there(str(root / name)) for name in "abc"}
    transaction = Transaction(NoCheckpoint())
    for name, new in steps:
        path = str(root / name)
        transaction.do(Edit(path, files.read_if_there(path), new))
        assert files.read_if_there(path) == new
    assert transaction.undo() == ()
    assert {name: files.read_if_there(str(root / name)) for name in "abc"} == before


def test_directories_that_were_made_are_removed_again(tmp_path):
    transaction = Transaction(NoCheckpoint())
    transaction.directory(str(tmp_path / "x" / "y"))
    transaction.do(Edit(str(tmp_path / "x" / "y" / "f"), None, b"1"))
    assert transaction.undo() == ()
    assert os.listdir(tmp_path) == []


def test_what_someone_else_wrote_since_stays_and_is_told(tmp_path):
    path = tmp_path / "conf"
    path.write_bytes(b"old")
    transaction = Transaction(NoCheckpoint())
    transaction.do(Edit(str(path), b"old", b"new"))
    path.write_bytes(b"the admin's")
    (failure,) = transaction.undo()
    assert str(path) in failure
    assert path.read_bytes() == b"the admin's"


def test_an_edit_that_came_too_late_is_not_undone(tmp_path):
    path = tmp_path / "conf"
    path.write_bytes(b"other")
    transaction = Transaction(NoCheckpoint())
    with pytest.raises(Changed):
        transaction.do(Edit(str(path), b"old", b"new"))
    assert transaction.undo() == ()
    assert path.read_bytes() == b"other"


def test_a_failure_in_the_middle_is_undone(tmp_path):
    path = tmp_path / "conf"
    path.write_bytes(b"old")
    transaction = Transaction(NoCheckpoint())
    transaction.do(Edit(str(path), b"old", b"new"))
    with pytest.raises(FileProblem):
        transaction.do(Edit(str(tmp_path / "no" / "such"), None, b"1"))
    assert transaction.undo() == ()
    assert path.read_bytes() == b"old"


def test_the_checkpoint_gets_configuration_files_and_is_discarded_with_the_undo(tmp_path):
    path = tmp_path / "conf"
    path.write_bytes(b"old")
    kept = Kept()
    transaction = Transaction(kept)
    edits = [Edit(str(path), b"old", b"new"), Edit(str(tmp_path / "more"), None, b"1")]
    transaction.checkpoint(edits, "title")
    assert kept.saved == [([str(path)], [str(tmp_path / "more")], "title")]
    for edit in edits:
        transaction.do(edit)
    transaction.undo()
    assert kept.discarded == 1


def test_no_checkpoint_without_a_configuration_edit():
    kept = Kept()
    transaction = Transaction(kept)
    transaction.checkpoint([], "title")
    transaction.undo()
    assert (kept.saved, kept.discarded) == ([], 0)
