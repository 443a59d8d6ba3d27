"""Files: atomic, durable, faithful; and the lock."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import pwd
import stat
import subprocess
import sys
import tempfile
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certbot_dovecot import files
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import Changed, FileProblem, LockProblem
from tests.plays import examples


def test_a_key_is_private_from_its_first_byte(tmp_path, monkeypatch):
    seen = []
    fsync = os.fsync

    def look(descriptor):
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    path = tmp_path / "2026.key"
    files.write(str(path), b"secret", 0o600)
    assert seen[0] == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_existing_file_keeps_its_mode_and_attributes(tmp_path):
    path = tmp_path / "conf"
    path.write_bytes(b"old")
    path.chmod(0o640)
    try:
        os.setxattr(path, "user.note", b"mine")
        attributes = True
    except OSError as exc:
        if exc.errno != errno.ENOTSUP:
            raise
        attributes = False
    files.write(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    if attributes:
        assert os.getxattr(path, "user.note") == b"mine"


def test_a_link_is_followed_and_stays(tmp_path):
    target, link = tmp_path / "real", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    files.write(str(link), b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_failed_write_leaves_the_old_bytes_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "conf"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileProblem, match=r"conf: cannot be written: No space left.*as they were.*Free space"):
        files.write(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["conf"]


def test_an_edit_needs_the_bytes_it_was_computed_from(tmp_path):
    path = tmp_path / "conf"
    path.write_bytes(b"other")
    with pytest.raises(Changed):
        files.apply(Edit(str(path), b"old", b"new"))
    assert path.read_bytes() == b"other"


def test_undo_gives_the_old_state_back(tmp_path):
    path = tmp_path / "conf"
    for old, new in ((None, b"1"), (b"1", b"2"), (b"2", None)):
        edit = Edit(str(path), old, new)
        files.apply(edit)
        assert files.read_if_there(str(path)) == new
        files.apply(edit.undo)
        assert files.read_if_there(str(path)) == old
        files.apply(edit)


def test_a_signature_sees_every_edit(tmp_path):
    path = tmp_path / "conf"
    path.write_bytes(b"1")
    missing = tmp_path / "missing"
    signature = files.sign([str(path), str(missing), str(tmp_path)])
    assert files.unchanged(signature)
    files.write(str(path), b"2")
    assert not files.unchanged(signature)
    signature = files.sign([str(missing)])
    missing.write_bytes(b"")
    assert not files.unchanged(signature)
    assert not files.unchanged(())


def test_the_lock_is_seen_by_another_process_and_vanishes(tmp_path):
    path = tmp_path / ".certbot.lock"
    script = f"from certbot_dovecot import files\nwith files.locked({str(path)!r}, 0.2): print('got it')"
    with files.locked(str(path)):
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert other.returncode == 1
        assert "LockProblem" in other.stderr
    assert not path.exists()
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert other.stdout == "got it\n"


def test_the_lock_is_waited_for(tmp_path):
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import sys\nfrom certbot_dovecot import files\n"
         f"with files.locked({str(path)!r}): print(1, flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdin is not None
    holder.stdout.readline()
    with pytest.raises(LockProblem, match=r"still held this lock.*Nothing was changed"), files.locked(str(path), 0.1):
        pass
    threading.Timer(0.2, holder.stdin.close).start()
    with files.locked(str(path), 10):
        assert path.exists()
    holder.wait(10)
    holder.stdout.close()


def test_certbots_own_lock_is_the_same_lock(tmp_path):
    """``certbot.util.lock_dir_until_exit`` is what certbot's plugins put on a server root."""
    script = f"from certbot import util\nutil.lock_dir_until_exit({str(tmp_path)!r})\nprint(1, flush=True)\ninput()"
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        with pytest.raises(LockProblem), files.locked(str(tmp_path / ".certbot.lock"), 0.1):
            pass
    finally:
        holder.communicate(b"\n", 10)


def mine():
    """Somebody else, for root; the tests of what others can do need one."""
    if os.geteuid():
        pytest.skip("only root can make files of somebody else's")
    return pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def theirs(tmp_path):
    """A directory of somebody else's, and a file of root's that nobody else may read."""
    directory, secret = tmp_path / "theirs", tmp_path / "secret"
    directory.mkdir()
    os.chown(directory, mine(), -1)
    secret.write_bytes(b"root's")
    secret.chmod(0o600)
    yield directory, secret
    assert (secret.read_bytes(), stat.S_IMODE(secret.stat().st_mode), secret.is_symlink()) == (b"root's", 0o600, False)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_of_somebody_else_is_replaced_and_not_followed(theirs, absolute):
    directory, secret = theirs
    path = directory / "metrics"
    path.symlink_to(secret if absolute else "../secret")
    files.write_over(str(path), b"new")
    assert (path.is_symlink(), path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (False, b"new", 0o644)
    assert os.listdir(directory) == ["metrics"]


def test_a_relative_path_is_one(theirs, monkeypatch):
    directory, secret = theirs
    (directory / "metrics").symlink_to(secret)
    monkeypatch.chdir(directory)
    files.write_over("metrics", b"new")
    assert (directory / "metrics").read_bytes() == b"new"


def test_a_configuration_is_not_written_through_a_link_of_somebody_else(theirs):
    directory, secret = theirs
    path = directory / "dovecot.conf"
    path.symlink_to(secret)
    said = rf"can write to the directory {directory},.*Nothing was written.*chown root {directory};"
    with pytest.raises(FileProblem, match=said):
        files.write(str(path), b"new")
    assert path.is_symlink()
    # Nor is the file of a link of root's that leads into such a directory.
    inside = directory / "real.conf"
    inside.write_bytes(b"old")
    link = directory.parent / "link.conf"
    link.symlink_to(inside)
    with pytest.raises(FileProblem, match=str(directory)):
        files.write(str(link), b"new")
    assert inside.read_bytes() == b"old"
    # By its own path it is what the admin says.
    files.write(str(inside), b"new")
    assert inside.read_bytes() == b"new"


@pytest.mark.parametrize("write", [files.write, files.write_over, files.remove, files.make_directory])
def test_nor_is_a_directory_reached_through_a_link_of_somebody_else(theirs, tmp_path, write):
    directory, _ = theirs
    target = tmp_path / "of root"
    target.mkdir()
    (target / "there").write_bytes(b"old")
    (directory / "way").symlink_to(target)
    arguments = () if write in (files.remove, files.make_directory) else (b"new",)
    with pytest.raises(FileProblem, match="a symbolic link is on the way"):
        write(str(directory / "way" / ("new" if write is files.make_directory else "there")), *arguments)
    assert os.listdir(target) == ["there"]
    assert (target / "there").read_bytes() == b"old"


def test_a_directory_in_one_that_others_can_rename_is_as_doubtful(theirs):
    directory, secret = theirs
    roots = directory / "roots"
    roots.mkdir()
    (roots / "conf").symlink_to(secret)
    with pytest.raises(FileProblem, match=f"can write to the directory {directory},"):
        files.write(str(roots / "conf"), b"new")


def test_a_sticky_directory_is_for_everybody_but_what_root_has_in_it_is_not(tmp_path):
    sticky, real = tmp_path / "tmp", tmp_path / "real"
    sticky.mkdir()
    sticky.chmod(0o1777)
    real.write_bytes(b"old")
    (sticky / "conf").symlink_to(real)
    with pytest.raises(FileProblem, match=f"can write to the directory {sticky},") as caught:
        files.write(str(sticky / "conf"), b"new")
    assert "chmod" not in str(caught.value)
    inside = sticky / "roots"
    inside.mkdir(0o755)
    (inside / "conf").symlink_to(real)
    files.write(str(inside / "conf"), b"new")
    assert real.read_bytes() == b"new"


def test_a_file_of_somebody_else_stays_theirs(theirs):
    directory, _ = theirs
    path = directory / "metrics"
    path.write_bytes(b"old")
    path.chmod(0o4640)
    os.chown(path, mine(), -1)
    path.chmod(0o4640)
    files.write_over(str(path), b"new")
    assert (path.read_bytes(), path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (b"new", mine(), 0o640)


def test_what_is_no_file_lends_nothing_to_the_new_one(theirs):
    directory, _ = theirs
    path = directory / "metrics"
    os.mkfifo(path, 0o666)
    files.write_over(str(path), b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o644)


def test_a_link_that_leads_to_itself_is_a_problem(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileProblem, match="Too many levels of symbolic links"):
        files.write(str(tmp_path / "loop"), b"new")


#: Three directories, of somebody else's or not, and what the links in each lead to.
_LINKS = st.dictionaries(st.sampled_from("xy"), st.sampled_from(["/a/x", "../b/y", "../c", "y", "/s", "../s"]), min_size=1)
TREES = st.fixed_dictionaries(dict.fromkeys("abc", st.tuples(st.booleans(), _LINKS)))
WAYS = st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from(["", "x", "y"]))


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(tree=TREES, way=WAYS, over=st.booleans())
def test_nothing_is_written_where_a_link_of_somebody_else_leads(tree, way, over):
    """Whatever the tree: what is written is reached without any link that others can have put there."""
    other = mine()
    with tempfile.TemporaryDirectory() as top:
        (pathlib.Path(top) / "s").write_bytes(b"root's")
        for name, (foreign, links) in tree.items():
            os.mkdir(f"{top}/{name}")
            for link, target in links.items():
                os.symlink(f"{top}{target}" if target.startswith("/") else target, f"{top}/{name}/{link}")
            if foreign:
                os.chown(f"{top}/{name}", other, -1)
        before = {path: path.lstat().st_ino for path in pathlib.Path(top).rglob("*")}
        path = os.path.join(top, *way).rstrip("/")
        with contextlib.suppress(FileProblem):
            (files.write_over if over else files.write)(path, b"new")
        for found in pathlib.Path(top).rglob("*"):
            if found.is_symlink() or found.is_dir() or before.get(found) == found.lstat().st_ino:
                continue
            # Changed: then either no link of others was on the way to it, or it is that link, replaced.
            hops = list(_links(path, top))
            foreign = [hop for hop in hops if os.stat(os.path.dirname(hop)).st_uid == other]
            assert foreign == [], (path, hops)


def _links(path, top):
    """The links that are on the way of ``path``, after the write."""
    here = top
    for part in os.path.relpath(path, top).split("/"):
        here = os.path.join(here, part)
        if os.path.islink(here):
            yield here
            here = os.path.realpath(here)
