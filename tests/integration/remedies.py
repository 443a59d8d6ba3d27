"""What a remedy is that ``status`` or ``doctor`` prints, how it is played on the lab, and a host to do it on.

The commands are taken from the printed text itself.  What is prose, an edit of a file say, is done by a function of the case.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional

from tests.integration import view
from tests.integration.sound import CRON, HOOK, LOCAL, MAIN, cron_daemon, doctor, trust
from tests.integration.test_install import INSTALL, NAME, STORE
from tests.lab import namespace

#: Words that may follow a program as a subcommand.
_PROGRAMS = {
    "certbot": ("install", "renew", "reconfigure", "delete"),
    "certbot-dovecot": ("deploy", "undo", "status", "doctor", "standby", "rollover", "tlsa"),
    "chmod": (),
    "chown": (),
    "doveadm": ("reload",),
    "postfix": ("reload",),
}
_FLAGS = ("--force-renewal", "--new-key", "--reuse-key", "--dns", "-q")
#: What a host in order has, and where it is kept.
_TREES = ("/etc/dovecot", "/etc/letsencrypt", "/etc/postfix", "/var/lib/letsencrypt")
_KEPT = "/run/lab/order"
_RANKS = {"note": 0, "warning": 1, "error": 2, "unknown": 2, "critical": 3}


@dataclass
class Bench:
    """A host on which a certificate is installed and all is in order."""

    host: Any
    ca: Any
    names: Any = None
    kept: dict[str, Any] = field(default_factory=dict)

    def write(self, path: str, text: str) -> None:
        self.host.write(path, text)

    def text(self, path: str) -> str:
        return str(view.read(path).decode())

    def replace(self, path: str, old: str, new: str) -> None:
        text = self.text(path)
        assert old in text, (path, old)
        self.host.write(path, text.replace(old, new))

    def pair(self, *names: str, stem: str = "other", **how: Any) -> Any:
        return self.ca.leaf(names, **how).write("/etc/dovecot/private", stem)

    def state(self, **changes: Any) -> None:
        """Change the record of the lineage."""
        self.write(f"{STORE}/state.json", json.dumps({**json.loads(self.text(f"{STORE}/state.json")), **changes}))

    def options(self, **changes: Any) -> None:
        options = json.loads(self.text(f"{STORE}/state.json"))["options"]
        self.state(options={**options, **changes}, settled=[])


@dataclass(frozen=True)
class Case:
    """One remedy.

    :param finding: template of the finding, as ``tests/unit/messages.py`` has it; of doctor, the place that says it.
    :param put: puts the situation there.
    :param words: what the finding says, of doctor.
    :param pick: which of the alternatives of the remedy.
    :param robot: does what the remedy says in prose; before its commands.
    :param args: options of ``status`` or ``doctor``.
    :param leaves: whether the host is as it was afterwards, and may be used again.
    :param serves: whether every port serves the lineage's certificate afterwards; else, something.
    :param dns: whether there are name servers.
    """

    finding: str
    put: Callable[[Bench], None]
    words: str = ""
    pick: int = 0
    robot: Optional[Callable[[Bench, dict[str, Any]], None]] = None
    args: tuple[str, ...] = ()
    leaves: bool = True
    serves: bool = True
    dns: bool = False

    @property
    def doctor(self) -> bool:
        return ".py:" in self.finding

    def seen(self, bench: Bench) -> list[dict[str, Any]]:
        """Everything that is found now."""
        if self.doctor:
            result = doctor(bench.host, "--json", *self.args)
            return list(json.loads(result.stdout))
        result = bench.host.run("certbot-dovecot", "status", "--json", *self.args, check=False)
        return [{**one, "severity": one["grade"]} for one in json.loads(result.stdout)["findings"]]

    def is_it(self, one: dict[str, Any]) -> bool:
        """Whether a finding is the one that this is about."""
        if self.doctor:
            return self.words in one["what"]
        template = ".+".join(map(re.escape, self.finding.split("...")))
        return re.fullmatch(template, one["what"]) is not None and self.words in one["what"]


_WAY = re.compile(r"(?:; (?=or |else |if |to )|, (?=or ))(?:or |else )?(?:if it is meant, )?")


def alternatives(todo: str) -> list[str]:
    """The ways that a remedy offers; what stands behind ``; then`` is the end of each.  What is in brackets offers none."""
    todo, then, end = todo.partition("; then ")
    masked = re.sub(r"\([^()]*\)", lambda match: "x" * len(match.group()), todo)
    ends = [(match.start(), match.end()) for match in _WAY.finditer(masked)]
    starts = [0, *(after for _, after in ends)]
    return [todo[start:stop] + then + end for start, stop in zip(starts, [*(before for before, _ in ends), len(todo)])]


def commands(text: str) -> list[list[str]]:
    """The commands in a text, in their order."""
    found = []
    for match in re.finditer(r"(?<![\w/-])(certbot-dovecot|certbot|chmod|chown|doveadm|postfix) ", text):
        program, words = match.group(1), []
        for word in re.split(r"[;(]", text[match.end() :])[0].split():
            bare = word.rstrip(",.")
            value = bool(words) and words[-1].startswith("-") and words[-1] not in _FLAGS
            name = "." in bare or bare.startswith("/")
            known = not words and (bare in _PROGRAMS[program] or program in ("chmod", "chown"))
            if not (known or value or name or bare.startswith("-")):
                break
            words.append(bare)
            if bare != word:
                break
        if words:
            found.append([program, *words])
    return found


def play(bench: Bench, case: Case, finding: dict[str, Any]) -> None:
    """Do what the remedy says."""
    ways = alternatives(finding["todo"])
    way = ways[case.pick]
    todo = commands(way)
    assert todo or case.robot, f"there is nothing to do in {way!r}"
    if case.robot:
        case.robot(bench, finding)
    for program, *words in todo:
        words = [NAME if word == "NAME" else word for word in words]
        if program == "certbot":
            # Without a subcommand, certbot asks how to prove the names.
            # A trial of reconfigure goes to the CA for tests that certbot knows, unless it is told which.
            more = {"reconfigure": ("--server", bench.host.acme)}.get(words[0], ())
            bench.host.certbot(*words, *(more if not words[0].startswith("-") else ("-a", "standalone")))
        elif program == "certbot-dovecot" and words[0] in ("status", "doctor"):
            _read_on(bench, case, finding)
        else:
            bench.host.run(program, *words)


def _read_on(bench: Bench, case: Case, finding: dict[str, Any]) -> None:
    """Do what the command says that a remedy has an admin read."""
    asked = replace(case, args=("--dns",), pick=0, robot=None)
    same = [one for one in asked.seen(bench) if _about(one) == _about(finding) and (case.doctor or case.is_it(one))]
    assert same, "it says nothing more"
    assert same[0]["todo"] != finding["todo"], "it sends the admin round in a circle"
    play(bench, asked, same[0])


def _about(finding: dict[str, Any]) -> tuple[Optional[str], ...]:
    return tuple(finding.get(name) for name in ("lineage", "check", "where"))


def worse(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], finding: dict[str, Any], case: Case
) -> list[dict[str, Any]]:
    """What is new, and worse than a finding; that nothing is installed is meant where it was undone."""
    known = {one["what"] for one in before}
    new = [one for one in after if one["what"] not in known]
    new = [one for one in new if case.serves or not one["what"].startswith("no certificate is installed")]
    return [one for one in new if _RANKS[one["severity"]] > _RANKS[finding["severity"]]]


def fresh(host: Any, what: str) -> bool:
    """Make it the host that was kept, which is quicker than to install again; or else a new one.

    :returns: whether it was kept.
    """
    kept = os.path.isdir(f"{_KEPT}/{what}")
    host.reset(start=not kept)
    if kept:
        for path in _TREES:
            namespace.unmount(path)
            namespace.empty(path)
            host.run("cp", "-a", f"{_KEPT}/{what}{path}/.", path)
        host.start("dovecot")
        host.start("postfix")
    return kept


def keep(host: Any, what: str) -> None:
    """Keep what the host has, for the next one that needs the same."""
    for path in _TREES:
        os.makedirs(f"{_KEPT}/{what}{path}")
        host.run("cp", "-a", f"{path}/.", f"{_KEPT}/{what}{path}")


@contextlib.contextmanager
def in_order(host: Any, ca: Any) -> Any:
    """A host of which nothing is to be said; cron runs."""
    if not fresh(host, NAME):
        host.certbot(*INSTALL)
        keep(host, NAME)
    trust()
    host.write(CRON, "0 */12 * * * root certbot -q renew\n")
    try:
        with cron_daemon():
            yield Bench(host, ca)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(CRON)


def without_block(path: str = LOCAL) -> Callable[[Bench, dict[str, Any]], None]:
    """An admin who takes out what stands in a file of his own."""

    def edit(bench: Bench, finding: dict[str, Any]) -> None:
        assert path in f"{finding.get('where')}{finding['todo']}"
        os.unlink(path)

    return edit


def without_line(bench: Bench, finding: dict[str, Any]) -> None:
    """An admin who takes the lines out that are named, ``file:line``; highest first."""
    places = re.findall(r"(/[\w./-]+):(\d+)", finding.get("where") or finding["todo"])
    for path, line in sorted(set(places), key=lambda one: -int(one[1])):
        lines = bench.text(path).splitlines(keepends=True)
        bench.write(path, "".join(lines[: int(line) - 1] + lines[int(line) :]))


def restart(*servers: str) -> Callable[[Bench, dict[str, Any]], None]:
    """An admin who starts servers."""

    def start(bench: Bench, _finding: dict[str, Any]) -> None:
        for server in servers:
            bench.host.restart(server)

    return start


__all__ = ["HOOK", "MAIN", "NAME", "Bench", "Case"]
