"""Overlapping lineages by chance, as our planners bring them to both servers, and who is served for a name.

The lookups here are what the servers are known to do, written without a line of the planners', and held against the servers'
own tools (``tests/integration/test_names_lookup.py``): :func:`ask_postfix` for ``tls_server_sni_maps``, :func:`ask_dovecot` for
``local_name`` blocks.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from certbot_dovecot.servers import dovecot_conf as conf
from certbot_dovecot.servers import dovecot_plan, master_cf, postfix_plan, postfix_services, sni_map
from certbot_dovecot.servers.contract import Claim, Pair
from certbot_dovecot.servers.dovecot_conf import Dialect

#: Names of certificates: exact ones, wildcards, parents and children.
NAMES = ("x.test", "a.x.test", "b.x.test", "c.a.x.test", "d.c.a.x.test", "*.x.test", "*.a.x.test", "*.c.a.x.test", "*.b.x.test")
#: What clients ask for: each of these, something at every depth, and what nobody has.
ASKED = (*(name.replace("*", "q") for name in NAMES), "q.q.x.test", "q.b.c.a.x.test", "q.test", "xx.test", "a-x.test")
#: One file of the admin's that is the certificate before ours.
OLD = Pair("/old.pem", "/old.key")
MASTER = "submission inet n - y - - smtpd\n465 inet n - y - - smtpd\n  -o smtpd_tls_wrappermode=yes\n"
MAP = f"{sni_map.TYPE}:/p/{sni_map.NAME}"
_SNI = f"/d/{dovecot_plan.SNI_FILE}"


def chance(seed: int, most: int = 4) -> list[tuple[str, ...]]:
    """Names of some lineages."""
    dice = random.Random(seed)
    return [tuple(dice.sample(NAMES, dice.randint(1, 3))) for _ in range(dice.randint(1, most))]


@dataclass
class World:
    """Two servers, and the lineages ``0``, ``1``, ... that come and go.

    :ivar names: of each lineage's certificate.
    :ivar stored: of the one in the store, which is the one before while a change is planned.
    :ivar key: the number of each lineage's key.
    :ivar files: Dovecot's.
    :ivar master: master.cf.
    :ivar table: Postfix' table of names.
    """

    dialect: Dialect
    place: str = "/store"
    names: dict[int, tuple[str, ...]] = field(default_factory=dict)
    stored: dict[int, tuple[str, ...]] = field(default_factory=dict)
    key: dict[int, int] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    master: bytes = MASTER.encode()
    table: bytes = b""

    def __post_init__(self) -> None:
        version = "" if self.dialect is conf.V23 else "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"
        lines = [f"{self.dialect.cert} = {self.dialect.mark}{OLD.cert}", f"{self.dialect.key} = {self.dialect.mark}{OLD.key}"]
        self.files["/d/dovecot.conf"] = (version + "\n".join(lines) + "\n").encode()

    def pair(self, who: int) -> Pair:
        stem = f"{self.place}/{who}/{2026 + self.key[who]}"
        return Pair(f"{stem}.pem", f"{stem}.key")

    def who(self, path: str) -> int:
        """Whose file it is; -1 for nobody's of ours."""
        match = re.fullmatch(rf"{re.escape(self.place)}/(\d+)/\S+", path)
        return int(match.group(1)) if match else -1

    def claim(self, who: int, explicit: bool) -> Claim:
        return Claim(
            self.pair(who), self.names[who], explicit, lambda path: self.who(path) == who,
            lambda path: self.who(path) not in (-1, who), self.covers,
        )  # fmt: skip

    def covers(self, path: str):
        return frozenset(self.stored.get(self.who(path), ())) or None

    def install(self, who: int, names: Sequence[str]) -> None:
        self.names[who] = tuple(names)
        self.key.setdefault(who, 0)
        self._plan(self.claim(who, True))

    def renew(self, who: int, names: Sequence[str] = ()) -> None:
        """With a new key, and perhaps with other names."""
        self.names[who] = tuple(names) or self.names[who]
        self.key[who] += 1
        self._plan(self.claim(who, False))

    def undo(self, who: int) -> None:
        """As ``certbot-dovecot undo``, but that what was before is known without a record."""
        claim, pair = self.claim(who, False), self.pair(who)
        entries, main = master_cf.parse(self.master, "m"), self._main()
        table = sni_map.parse(self.table)
        self.table = sni_map.dump(postfix_plan.without(entries, main, table, claim, self._here))
        for edit in dovecot_plan.without(self.tree(), "/d/dovecot.conf", claim, self.files.get(_SNI)):
            self._write(edit)
        main_file = self.files["/d/dovecot.conf"]
        for ours, old in ((pair.cert, OLD.cert), (pair.key, OLD.key)):
            main_file = main_file.replace(ours.encode(), old.encode())
            self.master = re.sub(rb"\n  -o \w+=" + re.escape(ours.encode()), b"", self.master)
        self.files["/d/dovecot.conf"] = main_file
        del self.names[who]

    def installed(self) -> set[int]:
        """Lineages that a server names files of; both servers name the same."""
        return {who for who in self.names if f"{self.place}/{who}/".encode() in b"".join(self.files.values())}

    def tree(self) -> conf.Tree:
        return conf.read("/d/dovecot.conf", self.files.__getitem__, lambda path: [path] if path in self.files else None)

    @property
    def _here(self) -> postfix_plan.Place:
        return postfix_plan.Place("m", MAP, "submission")

    @staticmethod
    def _main() -> postfix_services.Main:
        values = {"smtpd_tls_cert_file": OLD.cert, "smtpd_tls_key_file": OLD.key, "smtpd_tls_security_level": "may"}
        text = "".join(f"{name} = {value}\n" for name, value in values.items())
        return postfix_services.Main(values, text, lambda name: values.get(name, ""))

    def _plan(self, claim: Claim) -> None:
        entries, main = master_cf.parse(self.master, "m"), self._main()
        chosen = postfix_services.chosen("submission", entries, main, "m")
        self.master, table, _ = postfix_plan.plan(
            self.master, entries, main, chosen, sni_map.parse(self.table), claim, self._here
        )
        self.table = sni_map.dump(table)
        for edit in dovecot_plan.plan(self.tree(), "/d/dovecot.conf", claim, self.files.get(_SNI))[0]:
            self._write(edit)
        self.stored = dict(self.names)

    def _write(self, edit) -> None:
        assert self.files.get(edit.path) == edit.old
        self.files.pop(edit.path, None)
        if edit.new is not None:
            self.files[edit.path] = edit.new


def ask_postfix(world: World, name: str) -> str:
    """The certificate file that Postfix serves to a client that asks for ``name`` (tls_server.c: whole name, then suffixes)."""
    (service, *others) = master_cf.parse(world.master, "m")
    options = {one.name: one.value for one in service.options}
    assert [one for one in others[0].options if one.name != "smtpd_tls_wrappermode"] == [] or all(
        others[0].option(name) == value for name, value in options.items()
    )
    keys = [name, *(name[at:] for at, character in enumerate(name) if character == ".")]
    if options.get("tls_server_sni_maps") == MAP:
        for key in keys:
            if found := look_up(world.table, key):
                return found.split()[1]
    return options.get("smtpd_tls_cert_file", OLD.cert)


def look_up(table: bytes, key: str) -> str:
    """What ``postmap -q key regexp:table`` says; empty for nothing (regexp_table(5))."""
    for line in table.decode().splitlines():
        match = re.fullmatch(r"/(.*)/ (.*)", line)
        if match and re.search(match.group(1), key, re.IGNORECASE):
            return match.group(2)
    return ""


def ask_dovecot(world: World, name: str) -> str:
    """The certificate file that Dovecot serves to a client that asks for ``name``."""
    tree = world.tree()
    fits = []
    for block in tree.blocks:
        ((_, argument),) = block.scope
        for pattern in argument.split():
            if re.fullmatch(re.escape(pattern).replace(r"\*", "[^.]+"), name, re.IGNORECASE):
                fits.append(block.scope)
    scope = (fits[0] if world.dialect.first_wins else fits[-1]) if fits else ()
    found = tree.effective(world.dialect.cert, scope)
    assert found is not None
    return found.value
