"""Random Dovecot configurations, and what our reader and ``doveconf`` of the same version make of them.

``python3 -m tests.differential.dovecot --trees 30000 [--tree ROOT] [--seed N]`` is the long run; ``ROOT`` is a Debian tree
whose ``doveconf`` is asked (``chroot``), the machine's own without it.  The tests run a few hundred.

Both must agree on whether the configuration can be read, or ours must say what it does not understand (refusing more than
Dovecot does is allowed only for what is named in :data:`OURS`), and on the value of every setting in every scope.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from typing import Optional

from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers import dovecot_conf as conf
from certbot_dovecot.servers import dovecot_view
from certbot_dovecot.servers.dovecot import expand

#: Of what our reader refuses and Dovecot reads.
OURS = ("NUL byte", "byte order mark")

#: What Dovecot refuses for the meaning of words, which is not the reader's business.
_MEANING = (
    "Unknown setting", "Invalid value", "Unknown section", "escape sequence", "must be", "cannot be used",
    "Conflict in setting", "Unknown group", "to be inside net1",
)  # fmt: skip

#: Settings that every version of a dialect has, and that may be written in every filter.
_PLAIN = ("login_greeting", "login_log_format")
_SCOPES = {
    "local": ("127.0.0.1", "10.0.0.0/8", "::1"),
    "local_name": ("a.test", "b.test", "*.test", "mail.example.org"),
    "remote": ("192.0.2.1", "192.0.2.0/24"),
    "protocol": ("imap", "pop3"),
}
_ORDER = ("local", "local_name", "remote", "protocol")

_VALUES = (
    "v", "two words", "it's", '"quoted"', '"a # b"', "'a # b'", "a#b", "a = b", "x {", "}", '"mixed\'', '"a" "b"', "ü", "",
    r'"a\\b"',
    r'"a\"b"', "a;", "a\\\\b", "'", '"', "<x", "# only", '"  v  "', "a \\\n   b", "a \\\n b # c", "\x0bv\x0c", "a\tb",
)  # fmt: skip


@dataclass
class Case:
    """One configuration: relative path to text; ``main.conf`` is the main file."""

    files: dict[str, str] = field(default_factory=dict)


class Maker:
    """Makes configurations of one dialect."""

    def __init__(self, chance: random.Random, dialect: conf.Dialect, heredocs: bool) -> None:
        self.chance, self.dialect, self.heredocs = chance, dialect, heredocs
        self.case = Case()
        self.grouped = False

    def make(self) -> Case:
        """A configuration of a handful of files."""
        self.case = Case()
        if self.dialect is conf.V24:
            self.case.files["main.conf"] = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"
        text = self.body((), 0)
        if self.chance.random() < 0.1:
            text = text.rstrip("\n")
        if self.chance.random() < 0.1:
            text = text.replace("\n", "\r\n")
        self.case.files["main.conf"] = self.case.files.get("main.conf", "") + text
        if self.chance.random() < 0.04:
            self.spoil()
        return self.case

    def spoil(self) -> None:
        """Something that is wrong, or nearly so, at a place of chance."""
        odd = ("}", "protocol imap {", "{", "x", "ssl = maybe", "a b c", "!include", "!include no.conf", "protocol imap{", "\a")
        lines = self.case.files["main.conf"].split("\n")
        lines.insert(self.chance.randint(min(2, len(lines)), len(lines)), self.chance.choice(odd))
        self.case.files["main.conf"] = "\n".join(lines)

    def body(self, scope: tuple[str, ...], depth: int) -> str:
        """The lines of a block."""
        return "".join(self.part(scope, depth) for _ in range(self.chance.randint(1, 5)))

    def part(self, scope: tuple[str, ...], depth: int) -> str:
        kind = self.chance.random()
        if kind < 0.5:
            return self.assignment()
        if kind < 0.6:
            return self.noise()
        if kind < 0.72 and depth < 4:
            return self.include(scope, depth)
        if kind < 0.78 and self.dialect is conf.V24:
            return self.ssl_server()
        if kind < 0.81 and depth < 3:
            return self.across(scope, depth)
        if kind < 0.84 and self.dialect is conf.V24:
            return self.group(scope)
        least = _ORDER.index(scope[-1]) + (scope[-1] == "protocol" or self.chance.random() < 0.9) if scope else 0
        left = _ORDER[least:]
        if not left or depth > 3:
            return self.assignment()
        name = self.chance.choice(left)
        argument = self.chance.choice(_SCOPES[name])
        if name == "local_name" and self.dialect.names and self.chance.random() < 0.2:
            argument = '"a.test c.test"'
        elif self.chance.random() < 0.15:
            argument = f'"{argument}"'
        space, tail = self.white(), self.chance.choice(("", "", " # c", "\t", " #"))
        head = f"{self.indent()}{name}{space}{argument}{self.white()}{{{tail}\n"
        return head + self.body((*scope, name), depth + 1) + f"{self.indent()}}}{self.chance.choice(('', ' ', ' # c'))}\n"

    def ssl_server(self) -> str:
        count = self.chance.randint(1, 3)
        lines = "".join(f"{self.indent()}{self.ssl_key()}{self.equals()}{self.path()}\n" for _ in range(count))
        return f"ssl_server {{\n{lines}}}\n"

    def across(self, scope: tuple[str, ...], depth: int) -> str:
        """A block that begins in one file and ends in the other."""
        if "protocol" in scope:
            return ""
        name = f"h{len(self.case.files)}.conf"
        self.case.files[name] = ""
        if self.chance.random() < 0.5:
            self.case.files[name] = "protocol imap {\n" + self.body((*scope, "protocol"), depth + 1)
            return f"!include {name}\n{self.assignment()}}}\n"
        self.case.files[name] = self.body((*scope, "protocol"), depth + 1) + "}\n"
        return f"protocol imap {{\n{self.assignment()}!include {name}\n"

    def group(self, scope: tuple[str, ...]) -> str:
        """A group of settings, or its use."""
        if scope or self.chance.random() < 0.5:
            return "@g = one\n" if self.grouped else ""
        self.grouped = True
        lines = "".join(self.assignment() for _ in range(2))
        return f"group @g one {{\n{lines}}}\n"

    def ssl_key(self) -> str:
        name = self.chance.choice(("cert_file", "key_file", "alt_cert_file"))
        return self.chance.choice((name, f"ssl_server_{name}"))

    def include(self, scope: tuple[str, ...], depth: int) -> str:
        number = len(self.case.files)
        verb = self.chance.choice(("!include", "!include_try"))
        shape = self.chance.random()
        if shape < 0.15:
            return f"{self.indent()}!include_try nothing{number}.conf\n"
        if shape < 0.4:
            for name in ("10-a.conf", "20-b.conf", ".hidden.conf"):
                self.case.files[f"d{number}/{name}"] = ""
                self.case.files[f"d{number}/{name}"] = self.body(scope, depth + 1)
            return f"{self.indent()}{verb} d{number}/*.conf\n"
        if shape < 0.5:
            for name in ("x", "y"):
                self.case.files[f"e{number}/{name}.conf"] = ""
                self.case.files[f"e{number}/{name}.conf"] = self.body(scope, depth + 1)
            return f"{self.indent()}{verb} e{number}/{{y,x}}.conf # two\n"
        name = f"f{number}.conf"
        self.case.files[name] = ""
        text = self.body(scope, depth + 1)
        if self.chance.random() < 0.1:
            # Goes on in the file that includes it.
            text += "login_greeting = begun \\\n"
            self.case.files[name] = text
            return f"{self.indent()}{verb} {name}\n goes on\n"
        self.case.files[name] = text
        return f"{self.indent()}{verb}{self.white()}{name}{self.chance.choice(('', ' ', ' # c'))}\n"

    def assignment(self) -> str:
        if self.chance.random() < 0.4:
            key, value = self.chance.choice((self.dialect.cert, self.dialect.key)), self.path()
            if self.dialect is conf.V24 and self.chance.random() < 0.15:
                key = key.replace("ssl_server_", "ssl_server/")
        else:
            key, value = self.chance.choice(_PLAIN), self.value()
        if self.dialect is conf.V24 and self.chance.random() < 0.05:
            key = f'"{key}"'
        line = f"{self.indent()}{key}{self.equals()}{value}"
        if value.startswith("<<"):
            return f"{line}\n"
        shape = self.chance.random()
        if shape < 0.08:
            line = line.replace("=", "= \\\n  ", 1)
        elif shape < 0.1:
            line += " \\\n\n"
        elif shape < 0.12:
            line += " \\ \n# dropped\n"
        return line + self.chance.choice(("", "", "", " ", "\t", " # c", " #c \\")) + "\n"

    def path(self) -> str:
        """The value of a file setting."""
        path = self.chance.choice(("/a.pem", "/b.pem", "/c d.pem", "/e'f.pem", "/grü.pem", '/g"h.pem'))
        quoted = path if '"' in path else f'"{path}"'
        if self.dialect is conf.V24:
            return self.chance.choice((path, path, quoted))
        return self.chance.choice((f"<{path}", f"<{path}", f"< {path}", f"<\t{path}", quoted.replace("/", "</", 1)))

    def value(self) -> str:
        """The value of another setting."""
        if self.heredocs and self.chance.random() < 0.05:
            return "<<END\none\n two # no comment\nEND"
        return self.chance.choice(_VALUES)

    def equals(self) -> str:
        return self.chance.choice((" = ", " = ", "=", "\t=\t", " =", "= "))

    def white(self) -> str:
        return self.chance.choice((" ", " ", "  ", "\t"))

    def indent(self) -> str:
        return self.chance.choice(("", "", "  ", "\t", "\v" if self.dialect is conf.V24 else " "))

    def noise(self) -> str:
        return self.chance.choice(("\n", "# comment\n", "  # ssl_cert = <x\n", "#\n", " \t\n", "# ends in \\\n", "\\\n"))


class Judge:
    """One ``doveconf``.

    :param tree: the root of a Debian tree; empty for this machine.
    """

    def __init__(self, tree: str = "") -> None:
        self.tree = tree
        self.place = tempfile.mkdtemp(prefix="doveconf", dir=f"{tree}/tmp" if tree else None)
        self.inside = self.place[len(tree) :] if tree else self.place
        os.chmod(self.place, 0o755)
        out = subprocess.run([*self._program("dovecot"), "--version"], capture_output=True, text=True, check=True).stdout
        self.version = tuple(int(part) for part in out.split()[0].split("-")[0].split("."))
        self.dialect = conf.V24 if self.version >= (2, 4) else conf.V23

    def close(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.place)

    def maker(self, seed: int) -> Maker:
        """Of this dialect."""
        return Maker(random.Random(seed), self.dialect, heredocs=self.version >= (2, 4, 5))

    def compare(self, case: Case) -> Optional[str]:
        """What the two do not agree on, or None."""
        shutil.rmtree(f"{self.place}/t", ignore_errors=True)
        for name, text in case.files.items():
            path = f"{self.place}/t/{name}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", newline="", encoding="utf-8") as file:
                file.write(text)
        # No signature of ours in the way: the configuration is read in full, with everything that it changes.
        command = [*self._program("doveconf"), "-n", "-P", "-c", f"{self.inside}/t/main.conf"]
        theirs = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        try:
            tree = conf.read(f"{self.place}/t/main.conf", _read, expand)
        except ConfProblem as problem:
            if theirs.returncode == 0 and not any(reason in str(problem) for reason in OURS):
                return f"we refuse: {problem}\n{theirs.stdout.decode(errors='replace')}"
            return None
        if theirs.returncode:
            message = theirs.stderr.decode(errors="replace")
            return None if any(reason in message for reason in _MEANING) else f"Dovecot refuses: {message}"
        return self._differ(tree, conf.parse_dump(theirs.stdout, self.dialect))

    def compare_served(self) -> Optional[str]:
        """What counts for a client, by our rules and by ``doveconf -f``, in what :meth:`compare` has read; None if the same."""
        setting = _PLAIN[0]
        command = [*self._program("doveconf"), "-n", "-P", "-c", f"{self.inside}/t/main.conf"]
        dump = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        try:
            tree = conf.read(f"{self.place}/t/main.conf", _read, expand)
        except ConfProblem:
            return None
        if dump.returncode:
            return None
        # What a look takes is the dump, what a preview takes is the tree.
        printed = {a.scope: self._value(a) for a in conf.parse_dump(dump.stdout, self.dialect) if a.setting == setting}
        ours = {a.scope: self._value(a) for a in tree.assignments if a.setting == setting}
        ours = {scope: ours[scope] for scope in dovecot_view.as_made(ours, [block.scope for block in tree.blocks])}
        return self._served(printed, setting) or self._served(ours, setting)

    def _served(self, values: dict[conf.Scope, str], setting: str) -> Optional[str]:
        keys = ("lname", "service") if self.dialect is conf.V23 else ("local_name", "protocol")
        for protocol, address in (("imap", "127.0.0.1"), ("pop3", "192.0.2.1")):
            for name in ("a.test", "other.test", "mail.example.org"):
                asked = {keys[0]: name, "local": address, "remote": address, keys[1]: protocol}
                filters = [part for key, value in asked.items() for part in ("-f", f"{key}={value}")]
                command = [*self._program("doveconf"), "-c", f"{self.inside}/t/main.conf", *filters, "-h", setting]
                theirs = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
                scopes = dovecot_view.matching(values, self.dialect, protocol, address, name)
                if theirs.returncode or not scopes:
                    # Two scopes, neither within the other, which 2.3 cannot combine (facts/dovecot.md, 5); or the default.
                    continue
                if self.dialect is conf.V24 and any(len(scope) > 1 for scope in scopes):
                    # docs/measured.rst: 2.4's order of blocks in blocks among others is not understood.
                    continue
                printed = theirs.stdout if self.dialect is conf.V24 else b""
                # 2.4 prints it quoted where it must be.
                said = theirs.stdout.decode(errors="replace").removesuffix("\n")
                if printed:
                    line = setting.encode() + b" = " + printed
                    said = next((self._value(a) for a in conf.parse_dump(line, self.dialect)), said)
                if said != values[scopes[-1]]:
                    return f"{asked}: Dovecot says {said!r}, we say {values[scopes[-1]]!r} of {scopes}"
        return None

    def _differ(self, tree: conf.Tree, dump: list[conf.Assignment]) -> Optional[str]:
        wanted = (*_PLAIN, self.dialect.cert, self.dialect.key, self.dialect.alt_cert)
        theirs = {(a.scope, a.setting): self._value(a) for a in dump if a.setting in wanted}
        ours = {(a.scope, a.setting): self._value(a) for a in tree.assignments if a.setting in wanted}
        for at, value in theirs.items():
            if ours.get(at) != value:
                return f"{at}: Dovecot says {value}, we say {ours.get(at)}"
        for at, value in ours.items():
            if at not in theirs and value != _above(at, theirs):
                return f"{at}: we say {value}, Dovecot says nothing"
        return None

    def _value(self, a: conf.Assignment) -> str:
        """What the dump can tell: 2.3 prints a file's path and a value that begins with ``<`` alike."""
        return f"<{a.value}" if a.is_file and self.dialect is conf.V23 else a.value

    def _program(self, name: str) -> list[str]:
        return ["chroot", self.tree, name] if self.tree else [name]


def _above(at: tuple[conf.Scope, str], theirs: dict[tuple[conf.Scope, str], str]) -> str:
    """What ``-n`` leaves out: a value that is the one of the scope around, or the default."""
    scope, setting = at
    while scope:
        scope = scope[:-1]
        if (scope, setting) in theirs:
            return theirs[(scope, setting)]
    return ""


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def run(judge: Judge, trees: int, seed: int, most: int = 5, served: int = 10) -> tuple[int, list[str]]:
    """Compare ``trees`` configurations: how many were read by both, and reports of the first ``most`` that differ."""
    reports: list[str] = []
    for number in range(seed, seed + trees):
        case = judge.maker(number).make()
        said = judge.compare(case) or (judge.compare_served() if number % served == 0 else None)
        if said:
            shown = "\n".join(f"--- {name}\n{text!r}" for name, text in case.files.items())
            reports.append(f"seed {number}: {said}\n{shown}")
            if len(reports) >= most:
                break
        if (number - seed) % 1000 == 999:
            print(f"{number - seed + 1} configurations, {len(reports)} differ", file=sys.stderr, flush=True)
    return number - seed + 1, reports


def main() -> int:
    """The long run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--tree", default="", help="root of a Debian tree")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=5)
    args = parser.parse_args()
    judge = Judge(args.tree)
    try:
        done, reports = run(judge, args.trees, args.seed, args.most)
    finally:
        judge.close()
    print("\n".join(reports))
    kinds = Counter(report.split(": ", 2)[1] for report in reports)
    print(f"Dovecot {'.'.join(map(str, judge.version))}: {done} configurations, {len(reports)} differ {dict(kinds)}")
    return 1 if reports else 0


if __name__ == "__main__":
    sys.exit(main())
