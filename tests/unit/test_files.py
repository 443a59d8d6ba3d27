"""Files: atomic, durable, faithful; and the lock."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading

import pytest

from certbot_dovecot import files
from certbot_dovecot.files import Edit
from certbot_dovecot.problems import Changed, FileProblem, LockProblem


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
