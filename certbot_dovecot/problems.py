"""What can go wrong, as sentences for a tired admin at night.

Every failure that an admin can meet is a :class:`Problem`: *what* happened, *where*, what was *left* as it was, and what to
*do* now.  The doors translate it: the plugin into certbot's ``PluginError``, the command line into a line on stderr and
exit code 1.  Code tells kinds apart by class, never by text.

What a problem quotes may come from anywhere.  Its text is one line, and control characters in it are shown escaped (rule R12).
"""

from __future__ import annotations


class Problem(Exception):
    """One failure, told in full sentences.

    :param what: what happened, without a full stop.
    :param where: file (and line), endpoint or command it happened at; put in front of ``what``.
    :param left: what was left, or put back, as it was.
    :param todo: what the admin does now.
    """

    def __init__(self, what: str, *, where: str = "", left: str = "", todo: str = "") -> None:
        self.what = what
        self.where = where
        self.left = left
        self.todo = todo
        super().__init__(what)

    def __str__(self) -> str:
        # Only for one that is told: certbot imports this module at every command.
        from certbot_dovecot.certificates import names

        head = f"{self.where}: {self.what}" if self.where else self.what
        return " ".join(sentence(names.shown(part)) for part in (head, self.left, self.todo) if part)


class BundleProblem(Problem):
    """Key, leaf and chain are not a bundle that a mail server can serve."""


class ConfProblem(Problem):
    """A configuration file cannot be read, understood or edited."""


class ServerProblem(Problem):
    """A mail server's own tools refuse: configuration check, reload, not running, not installed."""


class ZoneProblem(ServerProblem):
    """A name server takes no updates of a zone, or does not have it; its other zones are not concerned."""


class NotInstalled(ServerProblem):
    """A program of a mail server is not there."""


class StateProblem(Problem):
    """``state.json`` cannot be read, or is not ours to read."""


class LockProblem(Problem):
    """Another run holds a lock that we need."""


class FileProblem(Problem):
    """The file system refuses: full, read-only, no permission."""


class Changed(Problem):
    """A file is not what it was when its edit was computed; compute it again."""


class DeployProblem(Problem):
    """A deployment could not be proven.

    :ivar kept: true if the new state stands (and is proven later), false if the old bytes are back.
    """

    def __init__(self, what: str, *, where: str = "", left: str = "", todo: str = "", kept: bool = False) -> None:
        super().__init__(what, where=where, left=left, todo=todo)
        self.kept = kept


class KeyHeld(Problem):
    """A key must stay, because TLSA records match it and may not match the one that would come.

    :param add: zone-file lines that would make the change safe, once caches have them.
    """

    def __init__(
        self, what: str, *, where: str = "", left: str = "", todo: str = "", add: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, where=where, left=left, todo=todo)
        self.add = add


def sentence(text: str) -> str:
    """``text`` with one stop at its end."""
    text = text.strip()
    return text if text.endswith((".", "!", "?", ":")) else text + "."
