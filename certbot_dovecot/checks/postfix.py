"""What in Postfix's configuration would hurt later.  Pure (docs/measured.rst has what was measured)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from shlex import quote

from certbot_dovecot.checks.facts import Facts, PostfixFacts
from certbot_dovecot.checks.findings import Finding, Severity
from certbot_dovecot.servers import master_cf, postfix_services
from certbot_dovecot.servers.master_cf import Entry
from certbot_dovecot.servers.postfix_services import PROXY, SMTPD, SNI_MAPS, Part

#: Parameters of main.cf that name certificates or keys.
_NAMING = re.compile(r"(?:smtpd|smtp|lmtp|tlsproxy)_tls_(?:(?:ec|d)?(?:cert|key)_file|chain_files)")


def shadow(facts: Facts) -> Iterator[Finding]:
    """What wins over the certificate of a service that names one of our files, and is not cleared there."""
    for one in facts.postfix:
        for entry in one.entries:
            for part in _parts(entry):
                named = [path for path in (entry.option(part.cert), entry.option(part.key)) if path]
                lineage = next((owner for path in named if (owner := facts.owner_of(path))), "")
                if lineage:
                    yield from (_shadowed(one, part, name, lineage) for name in _winning(one, part))


def _parts(entry: Entry) -> list[Part]:
    prefix = {"smtpd": SMTPD, "tlsproxy": PROXY}.get(entry.command)
    return [Part(entry, prefix)] if prefix else []


def _winning(one: PostfixFacts, part: Part) -> list[str]:
    """The parameters that win over certificate and key."""
    cleared = postfix_services.cleared(part, one.main, one.our_map)
    found = [name for name, wanted in cleared.items() if postfix_services.value(part.entry, one.main, name) != wanted]
    # A key that belongs to no certificate is not looked at, and an admin's table behind our own is meant.
    ours_first = next(iter(postfix_services.maps(part, one.main)), "") == one.our_map
    return [name for name in found if name != f"{part.prefix}eckey_file" and not (name == SNI_MAPS and ours_first)]


def _shadowed(one: PostfixFacts, part: Part, name: str, lineage: str) -> Finding:
    entry = part.entry
    option = next((option for option in reversed(entry.options) if option.name == name), None)
    if option:
        where = f"{one.master}:{_line(one.data, option.token.start)}"
    else:
        names = (name, SMTPD + name[len(PROXY) :]) if name.startswith(PROXY) else (name,)
        where = next((place for one_name in names if (place := _main_line(one, one_name)) != one.main_cf), one.main_cf)
    whom = "clients get another one, and the next renewal takes that for your wish and leaves the service alone"
    if name == SNI_MAPS:
        whom = "clients that ask for a name in it get another one, and renewals leave that as it is"
    return Finding(
        "shadow",
        Severity.WARNING,
        f"{name} wins over the certificate that the service {entry.name} at {one.master}:{entry.line} names: {whom}",
        where,
        f"certbot install --cert-name {quote(lineage)} --installer dovecot, which sees to that for that service alone; or take "
        "it out, then postfix reload",
        lineage,
    )


def left_behind(facts: Facts) -> Iterator[Finding]:
    """Settings that name a file of the store, and that no switch to a new key will follow."""
    for one in facts.postfix:
        for name, value, line in settings(one.main.text):
            if not _NAMING.fullmatch(name):
                continue
            path = next((path for path in value.replace(",", " ").split() if facts.owner_of(path)), "")
            if path:
                services = "all" if name.startswith(SMTPD) else ""
                yield _left(facts, f"{name} = {path}", path, f"{one.main_cf}:{line}", services)
        same = [other for other in facts.postfix if other.root == one.root]
        ours = {part.entry.line for other in same for service in other.chosen for part in service.parts}
        for entry in one.entries:
            if entry.line in ours:
                continue
            for option in entry.options:
                if _NAMING.fullmatch(option.name) and facts.owner_of(option.value):
                    where = f"{one.master}:{_line(one.data, option.token.start)}"
                    names = [service.entry.name for other in same for service in other.chosen]
                    asked = entry.fields[1] == "inet" and entry.command == "smtpd"
                    services = ",".join(dict.fromkeys([*names, entry.name])) if asked else ""
                    yield _left(facts, f"-o {option.name} of {entry.name}", option.value, where, services)
                    break


def _left(facts: Facts, what: str, path: str, where: str, services: str) -> Finding:
    """The finding.

    :param services: what ``--dovecot-postfix-services`` would look after it; empty for nothing.
    """
    lineage = facts.owner_of(path)
    live = f"{facts.config_dir}/live/{lineage}"
    todo = f"Name {live}/fullchain.pem and {live}/privkey.pem there, which are always the newest, then postfix reload"
    if services:
        todo += "; or take it out and have the service looked after: "
        todo += f"certbot install --cert-name {lineage} --installer dovecot --dovecot-postfix-services {services}"
    return Finding(
        "left-behind",
        Severity.WARNING,
        f"{what} names a file of one key year, and the installer does not look after it: once there is a new key, {path} is "
        "renewed no more and expires there",
        where,
        todo,
        lineage,
    )


def orphan_options(facts: Facts) -> Iterator[Finding]:
    """Options of a service whose first line is commented out, which hang on the service above."""
    for one in facts.postfix:
        for line in master_cf.orphans(one.data):
            above = [entry for entry in one.entries if entry.line < line]
            on = f"{above[-1].name} ({above[-1].fields[1]}) at line {above[-1].line}" if above else "no service"
            text = one.data.split(b"\n")[line - 1].strip().decode("utf-8", "replace")
            yield Finding(
                "orphan-options",
                Severity.WARNING,
                f"the service that {text!r} was written for is commented out, so that it counts for the service above: {on}",
                f"{one.master}:{line}",
                "Comment these lines out too, or take the # of their service away; then postfix reload",
            )


def double_setting(facts: Facts) -> Iterator[Finding]:
    """A name that main.cf sets twice, to different values."""
    for one in facts.postfix:
        known: dict[str, tuple[str, int]] = {}
        deadly = any(name == "maillog_file" and value for name, value, _ in settings(one.main.text))
        for name, value, line in settings(one.main.text):
            if name in known and known[name][0] != value:
                yield Finding(
                    "double-setting",
                    Severity.WARNING if deadly else Severity.NOTE,
                    f"{name} is set here and in line {known[name][1]}; this one counts"
                    + (
                        ". Every process of Postfix warns of that, its log daemon (maillog_file) too, into its own socket: "
                        "when that is full, as after a reload, all of Postfix may hang"
                        if deadly
                        else ", and every process of Postfix warns of it in the log"
                    ),
                    f"{one.main_cf}:{line}",
                    "Take one of the two out, then postfix reload",
                )
            known[name] = (value, line)


def settings(text: str) -> list[tuple[str, str, int]]:
    """(name, value, number of the first line) of every setting in main.cf.

    Comments and blank lines count nowhere, and a line that begins with white space continues.
    """
    found: list[tuple[str, str, int]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace():
            if found:
                name, value, first = found[-1]
                found[-1] = (name, f"{value} {line.strip()}".strip(), first)
            continue
        name, equals, value = (piece.strip() for piece in line.partition("="))
        found.append((name if equals else "", value, number))
    return [one for one in found if one[0]]


def old_clients(one: PostfixFacts) -> str:
    """Where the configuration says that clients of before TLS 1.2 are wanted; empty if it does not."""
    said = [(name, value, f"{one.main_cf}:{line}") for name, value, line in settings(one.main.text)]
    for service in one.chosen:
        for option in service.entry.options:
            said.append((option.name, option.value, f"{one.master}:{_line(one.data, option.token.start)}"))
    return next((where for name, value, where in said if name in _PROTOCOLS and allows_old(value)), "")


_PROTOCOLS = ("smtpd_tls_protocols", "smtpd_tls_mandatory_protocols")


def allows_old(protocols: str) -> bool:
    """Whether a list of protocols of Postfix, in its old or its new form, asks for TLS 1.0 or 1.1."""
    words = re.split(r"[\s,:]+", protocols.lower().strip())
    at_least = [word[2:] for word in words if word.startswith(">=")]
    old = ("tlsv1", "tlsv1.0", "tlsv1.1", "0301", "0302")
    # A list of exclusions, of SSLv2 and SSLv3 mostly, says nothing of what is wanted.
    return at_least[-1] in old if at_least else any(word in old for word in words)


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _main_line(one: PostfixFacts, name: str) -> str:
    lines: Iterable[int] = (line for setting, _, line in settings(one.main.text) if setting == name)
    return next((f"{one.main_cf}:{line}" for line in reversed(list(lines))), one.main_cf)
