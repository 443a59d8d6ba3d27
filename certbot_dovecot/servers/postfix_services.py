"""Which services of master.cf are meant, which certificate each serves, and what must be set to make it another one.

Who serves TLS on port 25: without postscreen, the ``smtpd`` that listens.  With it, the ``inet`` service is ``postscreen``,
which serves no certificate itself: a client that it lets in is handed to the service ``smtpd`` of type ``pass``, and a client
that it still tests gets its TLS from the service ``tlsproxy``.  Both must serve the same, and tlsproxy has parameters of its
own (``tlsproxy_tls_*``), whose defaults are smtpd's.  From this host, mostly only the first of the two can be asked, since
postscreen lets clients of ``mynetworks`` in; so what tlsproxy serves is known from the files alone.

Pure, over parsed entries and :class:`Main`, but that :attr:`Main.ask` may ask Postfix.  Fails as a
:class:`~certbot_dovecot.problems.ConfProblem` if a named service is not there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Callable, Optional, Union

from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers import by_name, sni_map
from certbot_dovecot.servers.contract import Claim, Pair
from certbot_dovecot.servers.master_cf import Entry

SMTPD, PROXY = "smtpd_tls_", "tlsproxy_tls_"
SNI_MAPS = "tls_server_sni_maps"
#: Where mail comes in from other hosts.
MX_PORT = 25

#: What stands for services, instead of their names.
_WORDS = ("submission", "all")
_SHADOWS = ("chain_files", "eccert_file", "eckey_file")
#: What main.cf may present to other servers, as a client.
_CLIENT = ("smtp_tls_cert_file", "smtp_tls_eccert_file", "smtp_tls_chain_files")

#: Every parameter of main.cf that is needed here.
ASKED = (
    *(prefix + name for prefix in (SMTPD, PROXY) for name in ("cert_file", "key_file", *_SHADOWS)), SNI_MAPS, *_CLIENT,
    "smtpd_tls_wrappermode", "smtpd_tls_security_level", "smtpd_use_tls", "smtpd_enforce_tls", "smtpd_service_name",
    "tlsproxy_service_name", "smtpd_upstream_proxy_protocol", "postscreen_upstream_proxy_protocol",
)  # fmt: skip


@dataclass(frozen=True)
class Main:
    """What main.cf says.

    :param values: effective value of parameters, those of :data:`ASKED` at least.
    :param text: the file.
    :param ask: gives the effective value of any other parameter.
    """

    values: Mapping[str, str]
    text: str
    ask: Callable[[str], str]

    def sets(self, name: str) -> bool:
        """Whether the file itself sets it, be it to nothing; else it has its default."""
        return re.search(rf"(?m)^{name}[ \t]*=", self.text) is not None


@dataclass(frozen=True)
class Part:
    """An entry that serves a certificate.

    :param prefix: how its daemon's parameters begin.
    """

    entry: Entry
    prefix: str = SMTPD

    @property
    def cert(self) -> str:
        """The parameter that names its certificate."""
        return f"{self.prefix}cert_file"

    @property
    def key(self) -> str:
        """The parameter that names its private key."""
        return f"{self.prefix}key_file"

    @property
    def shadows(self) -> tuple[str, ...]:
        """What wins over certificate and key if it is not empty, for every client."""
        return tuple(self.prefix + name for name in _SHADOWS)


@dataclass(frozen=True)
class Service:
    """A service that listens, and the entries that do its TLS.

    :param entry: the one that listens.
    :param smtpds: it, or behind postscreen those of type ``pass``; of several the last is the one that runs.
    :param proxies: postscreen's tlsproxy, likewise.
    """

    entry: Entry
    smtpds: tuple[Part, ...]
    proxies: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """All that are to be edited."""
        return (*self.smtpds, *self.proxies)

    @property
    def running(self) -> tuple[Part, ...]:
        """smtpd, then tlsproxy, as far as they are there."""
        return (*self.smtpds[-1:], *self.proxies[-1:])

    @property
    def postscreen(self) -> bool:
        """Whether postscreen listens."""
        return self.entry.command == "postscreen"


@dataclass(frozen=True)
class Named:
    """What a part is configured to serve.

    :param pair: to a client that asks for no name; None if that is not a pair of files.
    :param chain: ``chain_files``, which is no pair; empty if it does not count.
    :param maps: the tables of ``tls_server_sni_maps``, which are asked in turn.
    :param others: files with certificates beside the pair: those of the chain, or one for clients of another algorithm.
    :param where: ``file:line`` of what names the tables.
    """

    pair: Optional[Pair]
    chain: str = ""
    maps: tuple[str, ...] = ()
    others: tuple[str, ...] = field(default=(), compare=False)
    where: str = field(default="", compare=False)

    def to(self, table: str, by_name: Optional[Pair]) -> Optional[Pair]:
        """The pair for a client.

        :param table: our own table.
        :param by_name: what it has for the name that the client asks for.
        """
        return by_name if by_name and table in self.maps else self.pair

    def same(self, other: Named, table: str, by_name: Optional[Pair]) -> bool:
        """Whether ``other`` serves a client the same; parameters as for :meth:`to`."""
        return self._whole(table, by_name) == other._whole(table, by_name)

    def _whole(self, table: str, by_name: Optional[Pair]) -> Union[Pair, tuple[object, ...]]:
        if by_name and table in self.maps:
            return by_name
        return (self.pair, self.chain, tuple(name for name in self.maps if name != table))


def chosen(words: str, entries: Sequence[Entry], main: Main, path: str) -> list[Service]:
    """The services that are ours to edit.

    :param words: ``submission``, ``all``, or a comma list of service names.
    :param path: of master.cf, for messages.
    :raises ConfProblem: a name that is not there.
    """
    inet = [entry for entry in entries if entry.fields[1] == "inet"]
    word = words.strip().lower()
    if word in _WORDS:
        found = [entry for entry in inet if _submits(entry, main) or (word == "all" and receives(entry))]
        return [service(entry, entries, main) for entry in found]
    found = []
    for name in filter(None, (name.strip() for name in words.split(","))):
        named = [entry for entry in inet if entry.name == name]
        if not named:
            raise ConfProblem(
                f"there is no service {name} of type inet (there is {', '.join(entry.name for entry in inet)})",
                where=path,
                left="Nothing was changed",
                todo="Give --dovecot-postfix-services names from that list",
            )
        found += named
    return [service(entry, entries, main) for entry in found]


def service(entry: Entry, entries: Iterable[Entry], main: Main) -> Service:
    """The service of an ``inet`` entry."""
    if entry.command != "postscreen":
        return Service(entry, (Part(entry),))

    def behind(parameter: str, default: str, kind: str, prefix: str) -> tuple[Part, ...]:
        name = value(entry, main, parameter) or default
        return tuple(Part(other, prefix) for other in entries if other.fields[:2] == (name, kind))

    smtpds = behind("smtpd_service_name", "smtpd", "pass", SMTPD)
    return Service(entry, smtpds, behind("tlsproxy_service_name", "tlsproxy", "unix", PROXY))


def receives(entry: Entry) -> bool:
    """Whether an ``inet`` entry receives mail from other hosts."""
    return entry.port == MX_PORT and entry.command in ("smtpd", "postscreen")


def _submits(entry: Entry, main: Main) -> bool:
    if entry.command != "smtpd" or entry.port == MX_PORT:
        return False
    return entry.port in (465, 587) or value(entry, main, "smtpd_tls_wrappermode") == "yes"


def value(entry: Entry, main: Main, name: str) -> str:
    """The effective value of a parameter for an entry; an option may have ``$other`` in it."""
    own = entry.option(name)
    if own is not None:
        return own
    if name.startswith(PROXY) and not main.sets(name):
        return value(entry, main, SMTPD + name[len(PROXY) :])
    return main.values.get(name, "")


def expanded(entry: Entry, main: Main, name: str) -> str:
    """The same with ``$other`` filled in."""

    def fill(match: re.Match[str]) -> str:
        other = next(group for group in match.groups() if group)
        own = entry.option(other)
        return own if own is not None else main.ask(other)

    text = value(entry, main, name)
    return re.sub(r"\$(?:(\w+)|\{(\w+)\}|\((\w+)\))", fill, text) if "$" in text else text


def named(part: Part, main: Main) -> Named:
    """What a part serves an ordinary client, as far as files can say it (docs/measured.rst)."""

    def have(name: str) -> str:
        return expanded(part.entry, main, part.prefix + name)

    tables, cert = maps(part, main), have("cert_file")
    if have("chain_files"):
        return Named(None, have("chain_files"), tables, paths(have("chain_files")))
    if have("eccert_file"):
        pair = Pair(have("eccert_file"), have("eckey_file") or have("eccert_file"))
        return Named(pair, "", tables, (cert,) if cert not in ("", pair.cert) else ())
    return Named(Pair(cert, have("key_file") or cert) if cert else None, "", tables)


def maps(part: Part, main: Main) -> tuple[str, ...]:
    """The tables of ``tls_server_sni_maps``; our own by its present type, whatever it was written with."""
    return tuple(map(_present, tables(value(part.entry, main, SNI_MAPS))))


def winner(
    maps: Sequence[str], ours: str, name: str, entry: Optional[Pair], look_up: Callable[[str, str], Mapping[str, str]]
) -> Optional[tuple[str, str]]:
    """The table of somebody else's that has a client's certificate, and what it says; None if ours has it, or none.

    As Postfix does it: all tables are asked for the whole name, in turn, then for what follows each of its dots, with the dot.

    :param maps: the tables, in turn.
    :param ours: our own, which has whole names only.
    :param name: what the client asks for.
    :param entry: what our own has for it.
    :param look_up: gives what a table has for the name and for what follows its dots.
    """
    for key in name_keys(name):
        for table in maps:
            if table == ours:
                if entry is not None and key == name:
                    return None
            elif (found := look_up(table, name).get(key)) is not None:
                return table, found
    return None


def name_keys(name: str) -> list[str]:
    """What Postfix asks a table of ``tls_server_sni_maps`` for: the name, then what follows each of its dots, with the dot."""
    return [name, *(name[n:] for n, character in enumerate(name) if character == "." and n)]


def maps_place(part: Part, main: Main, data: bytes, root: str) -> str:
    """Where ``tls_server_sni_maps`` is set for a part, ``file:line``.

    :param data: master.cf.
    :param root: its directory.
    """
    option = next((option for option in reversed(part.entry.options) if option.name == SNI_MAPS), None)
    if option is not None:
        line = data.count(b"\n", 0, option.token.start) + 1
        return f"{os.path.join(root, 'master.cf')}:{line}"
    path = os.path.join(root, "main.cf")
    lines = [n for n, line in enumerate(main.text.split("\n"), 1) if re.match(rf"{SNI_MAPS}[ \t]*=", line)]
    return f"{path}:{lines[-1]}" if lines else path


def by_present_type(entries: Iterable[Entry]) -> dict[int, dict[str, str]]:
    """Options to be set, by the number of an entry's first line, so that none names our table by its former type."""
    values = {}
    for entry in entries:
        named = tables(entry.option(SNI_MAPS) or "")
        if any(_present(one) != one for one in named):
            values[entry.line] = {SNI_MAPS: ",".join(dict.fromkeys(map(_present, named)))}
    return values


def _present(table: str) -> str:
    kind, _, path = table.partition(":")
    ours = kind == sni_map.FORMER_TYPE and path.rpartition("/")[2] == sni_map.NAME
    return f"{sni_map.TYPE}:{path}" if ours else table


def tables(text: str) -> tuple[str, ...]:
    """The tables in a value of ``tls_server_sni_maps``; one in braces may have blanks and commas in it."""
    found, depth = [""], 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth == 0 and character in ", \t\r\n":
            found.append("")
        else:
            found[-1] += character
    return tuple(filter(None, found))


def cleared(part: Part, main: Main, table: str) -> dict[str, str]:
    """What would win over a certificate of this part, emptied; and our own table before those of somebody else's.

    Tables of somebody else's are for names of somebody else's, and stay (rule R14).  A mere default of another parameter is not
    cleared.
    """
    found = {}
    for name in part.shadows:
        if part.entry.option(name) or (value(part.entry, main, name) and _meant(part, main, name)):
            found[name] = ""
    if any(one != table for one in maps(part, main)):
        found[SNI_MAPS] = with_table(part, main, table)
    return found


def with_table(part: Part, main: Main, table: str) -> str:
    """``tls_server_sni_maps`` with our table before all others."""
    return ",".join([table, *(one for one in maps(part, main) if one != table)])


def certificates(part: Part, main: Main) -> tuple[str, ...]:
    """Every file that a part takes a certificate from, without those of tables."""
    here = {name: expanded(part.entry, main, part.prefix + name) for name in ("chain_files", "cert_file", "eccert_file")}
    return (paths(here["chain_files"])) or tuple(filter(None, (here["cert_file"], here["eccert_file"])))


def others_names(claim: Claim, part: Part, main: Main) -> tuple[str, ...]:
    """The names of a certificate that options of a service name, and that is for others (rule R14); empty if it is not.

    A certificate that main.cf names as well is no service's own.
    """
    everyones = certificates(replace(part, entry=replace(part.entry, options=())), main)
    return by_name.others_names(claim, [path for path in certificates(part, main) if path not in everyones])


def named_by_admin(words: str) -> bool:
    """Whether :func:`chosen` takes services by their names, as the admin listed them."""
    return words.strip().lower() not in _WORDS


def _meant(part: Part, main: Main, name: str) -> bool:
    """Whether somebody wrote the value: of the parameter, or of smtpd's that is its default."""
    names = (name, SMTPD + name[len(PROXY) :]) if name.startswith(PROXY) else (name,)
    return any(part.entry.option(one) or main.sets(one) for one in names)


def has_tls(entry: Entry, main: Main) -> bool:
    """Whether an smtpd does TLS at all."""
    if value(entry, main, "smtpd_tls_wrappermode") == "yes":
        return True
    level = value(entry, main, "smtpd_tls_security_level")
    if level:
        return level != "none"
    return "yes" in (value(entry, main, "smtpd_use_tls"), value(entry, main, "smtpd_enforce_tls"))


def proxy(entry: Entry, main: Main) -> str:
    """The protocol that a service which listens wants from the proxy before it, ``haproxy``; empty for none.

    Postfix takes it from everybody who can connect (postconf(5)).
    """
    daemon = "postscreen" if entry.command == "postscreen" else "smtpd"
    return expanded(entry, main, f"{daemon}_upstream_proxy_protocol").strip()


def client_notes(claim: Claim, services: Iterable[Service], main: Main) -> list[str]:
    """What to say of a certificate that main.cf presents to other servers, and that services had or get."""
    names = [named(part, main) for one in services for part in one.parts]
    had = {path for one in names for path in (one.pair.cert if one.pair else "", *paths(one.chain))}
    for name in ("cert_file", "eccert_file", "chain_files"):
        had.update(paths(main.values.get(SMTPD + name, "")))
    return [
        f"Postfix: {name} in main.cf shows {path} to other mail servers, as a client's certificate. Public CAs no longer issue "
        "certificates for TLS clients, and a server that looks will refuse it. Mail needs none: take the setting out."
        for name in _CLIENT
        for path in paths(main.values.get(name, ""))
        if path in had or claim.owns(path) or claim.another(path)
    ]


def paths(text: str) -> tuple[str, ...]:
    """The files in a value that lists some, as ``chain_files`` and a line of a table do; empty if it is none."""
    found = tuple(text.replace(",", " ").split())
    return found if all(path.startswith("/") for path in found) else ()
