"""The directory hook that keeps an installed lineage true whoever renews it (rule R11).

``certbot install``, and ``certbot run`` on a lineage that is not due, do not store the installer in the renewal conf: certbot
then renews without calling us, and the servers' copy would expire in silence.  So a small script goes into certbot's own
``renewal-hooks/deploy`` at such an install.  It calls ``certbot-dovecot deploy``, which touches nothing that was not
installed before, for whatever lineage was renewed.

The script is written once and never changed if it is there; an admin may edit or remove it.  When the package goes and no
server needs it, it goes too, if it is as it was written.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys

from certbot_dovecot import commands, files

NAME = "certbot-dovecot"


def ensure(hooks_dir: str) -> str:
    """Put the hook into certbot's ``renewal-hooks/deploy`` directory, if it is not there, or is ours and would not work.

    :returns: its path.
    :raises FileProblem: it cannot be written.
    """
    path = os.path.join(hooks_dir, NAME)
    if not os.path.lexists(path) or _is_broken(path):
        files.make_directory(hooks_dir)
        files.write(path, script(_command()), 0o755)
    return path


def _is_broken(path: str) -> bool:
    """Whether it was written here, and certbot would not run it or it calls a program that is gone."""
    text = (files.read_if_there(path) or b"").decode("utf-8", "replace")
    command = command_of(text)
    ours = text.encode() == script(command) if command else False
    return ours and not (os.access(path, os.X_OK) and os.access(command, os.X_OK))


def drop(hooks_dir: str) -> None:
    """Remove the hook, if it is there and as it was written.

    :raises FileProblem: it cannot be read or removed.
    """
    path = os.path.join(hooks_dir, NAME)
    if files.read_if_there(path) == script(_command()):
        files.remove(path)


def script(command: str) -> bytes:
    """The hook's text; ``command`` is the absolute path of ``certbot-dovecot``."""
    return f"""#!/bin/sh
# Written by certbot-dovecot. certbot runs this after every renewal, with RENEWED_LINEAGE set. It brings a renewed
# certificate to the mail servers that it was installed on, also if its renewal conf does not name the installer.
# It does nothing for other certificates. To stop that, remove this file.
command={shlex.quote(command)}
if [ ! -x "$command" ]; then
    echo "$command is gone: mail servers keep their old certificate. Install certbot-dovecot again, or remove $0." >&2
    exit 1
fi
exec "$command" deploy
""".encode()


def command_of(text: str) -> str:
    """The command that a hook of ours calls; empty if it is not of ours."""
    match = re.search(r"(?m)^command=(.*)$", text)
    try:
        return next(iter(shlex.split(match.group(1))), "") if match else ""
    except ValueError:
        return ""


def _command() -> str:
    """Where ``certbot-dovecot`` is: beside the Python that runs now, else on the search path."""
    beside = os.path.join(os.path.dirname(sys.executable), NAME)
    if os.access(beside, os.X_OK):
        return beside
    return shutil.which(NAME, path=commands.search_path()) or f"/usr/bin/{NAME}"
