"""``state.json``: what we know of one lineage beyond what the files and the servers say themselves.

The truth about an installation is in the effective configuration and in the store; this record adds what neither can tell:
what the admin chose at the first install (certbot forgets plugin options when ``run`` meets an existing lineage), the year of
each key, what is still to be reloaded or proven after a kill, and a signature of every file that was read when all was found
true, so that a run with nothing to do costs a few ``stat`` calls.

A file of a later format, or one that is not ours, is a :class:`~certbot_dovecot.problems.StateProblem`; it is never
overwritten.  A missing file is a lineage that we know nothing of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from certbot_dovecot import files
from certbot_dovecot.files import Signature
from certbot_dovecot.problems import StateProblem

#: The format that this version writes; it reads this one only.
FORMAT = 1


@dataclass(frozen=True)
class Options:
    """What the admin chose, as ``--dovecot-*`` has it.

    :param server_root: Dovecot's configuration directory.
    :param postfix_root: Postfix's; empty to ask ``postconf``.
    :param postfix_services: ``submission``, ``all``, ``none`` or a comma list of master.cf services.
    :param store: where bundles are kept; empty for ``CONFIG_DIR/dovecot``.
    :param key_rotation: ``annual`` or ``never``.
    :param probe_timeout: seconds.
    :param reuse_key: what was said with ``--reuse-key`` or ``--no-reuse-key``; None for nothing.
    :param dane: ``auto``, or ``off``: published TLSA records do not matter.
    :param resolver: a validating resolver, ``ADDRESS[:PORT]``; empty for the system's, if it is on loopback.
    :param dane_floor: hours that the next key's record must stand at least before a switch.
    :param publish_rfc2136: file of credentials for dynamic updates; empty for none.
    :param publish_command: command line of a program that publishes; empty for none.
    :param dane_hosts: further host names under which others reach this host, separated by commas; empty for none.
    """

    server_root: str = "/etc/dovecot"
    postfix_root: str = ""
    postfix_services: str = "submission"
    store: str = ""
    key_rotation: str = "annual"
    probe_timeout: float = 10.0
    reuse_key: Optional[bool] = None
    dane: str = "auto"
    resolver: str = ""
    dane_floor: float = 48.0
    publish_rfc2136: str = ""
    publish_command: str = ""
    dane_hosts: str = ""

    @property
    def publishes(self) -> bool:
        """Whether records are published by us."""
        return self.dane != "off" and bool(self.publish_rfc2136 or self.publish_command)


@dataclass(frozen=True)
class State:
    """The record of one lineage.

    :param options: what the admin chose.
    :param years: SPKI to the year its key was made in.
    :param stem: the key that is deployed (``2026``); empty if nothing is.
    :param leaf: the leaf that was deployed last, SHA-256 hex.
    :param spki: its key.
    :param servers: names of the servers it is installed on.
    :param installing: servers that an explicit install was adding; what a kill leaves of it, the next run finishes.
    :param reload: of these, the ones still to be reloaded.
    :param verify: of these, the ones still to be proven on the wire.
    :param withdrawn: servers that it was installed on and whose configuration does not name its files any more; what these
        serve is watched until the lineage is installed there again, or undone (rule R17).
    :param settled: signature of all files at the last time everything was found true; empty if it was not.
    """

    options: Options = Options()
    years: Mapping[str, int] = field(default_factory=dict)
    stem: str = ""
    leaf: str = ""
    spki: str = ""
    servers: tuple[str, ...] = ()
    installing: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    settled: Signature = ()
    withdrawn: tuple[str, ...] = ()


def load(path: str) -> Optional[State]:
    """The record in file ``path``, or None if there is none.

    :raises StateProblem: it is not a record that this version can read.
    :raises FileProblem: it cannot be read.
    """
    data = files.read_if_there(path)
    return None if data is None else parse(data, path)


def parse(data: bytes, path: str) -> State:
    """The record in ``data``; pure.

    :param path: for messages.
    :raises StateProblem: rubbish, or from a later version.
    """
    try:
        raw = json.loads(data)
        version = raw["format"]
        if not isinstance(version, int):
            raise TypeError("format is not a number")
        if version != FORMAT:
            raise StateProblem(
                f"this record has format {version}, and this version of certbot-dovecot reads format {FORMAT} only",
                where=path,
                left="Nothing was changed",
                todo="Install the version of certbot-dovecot that wrote it, or a later one",
            )
        return State(
            options=_options(raw["options"]),
            years={_text(spki): _number(year) for spki, year in raw["years"].items()},
            stem=_text(raw["stem"]),
            leaf=_text(raw["leaf"]),
            spki=_text(raw["spki"]),
            servers=_texts(raw["servers"]),
            installing=_texts(raw["installing"]),
            reload=_texts(raw["reload"]),
            verify=_texts(raw["verify"]),
            settled=tuple((_text(p), _number(m), _number(s), _number(i)) for p, m, s, i in _list(raw["settled"])),
            # Records of earlier versions do not have it.
            withdrawn=_texts(raw.get("withdrawn", [])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise StateProblem(
            "this record is damaged: it is not what certbot-dovecot writes",
            where=path,
            left="Nothing was changed",
            todo="Move it away and install the lineage again (certbot install --installer dovecot --cert-name NAME)",
        ) from exc


def dump(state: State) -> bytes:
    """The bytes of ``state.json``."""
    return (json.dumps({"format": FORMAT, **asdict(state)}, indent=1, sort_keys=True) + "\n").encode()


def _options(raw: Mapping[str, Any]) -> Options:
    options = Options(
        server_root=_text(raw["server_root"]),
        postfix_root=_text(raw["postfix_root"]),
        postfix_services=_text(raw["postfix_services"]),
        store=_text(raw["store"]),
        key_rotation=_text(raw["key_rotation"]),
        probe_timeout=float(raw["probe_timeout"]),
        reuse_key=raw["reuse_key"],
        dane=_text(raw["dane"]),
        resolver=_text(raw["resolver"]),
        dane_floor=float(raw["dane_floor"]),
        publish_rfc2136=_text(raw["publish_rfc2136"]),
        publish_command=_text(raw["publish_command"]),
        # A record of 0.1.0 does not have it.
        dane_hosts=_text(raw.get("dane_hosts", "")),
    )
    known = options.key_rotation in ("annual", "never") and options.dane in ("auto", "off")
    if not known or not isinstance(options.reuse_key, (bool, type(None))):
        raise ValueError("an option that we never write")
    return options


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(entry) for entry in _list(value))


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a number")
    return value
