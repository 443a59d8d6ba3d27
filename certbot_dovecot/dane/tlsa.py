"""TLSA records (RFC 6698, RFC 7671) of the keys that endpoints serve.

Always ``3 1 1``: DANE-EE, SubjectPublicKeyInfo, SHA2-256 (rule D1).  It survives every renewal with the same key, and needs no
chain.  A record is made for an owner name ``_port._tcp.host`` only if the endpoint at that port has been seen serving the key
(rules D13, R5); the key that comes *next* gets a record only beside a served one (rule D2), marked as such.

A host name is every DNS name of the certificate but the wildcards, for which the zone file has a comment: which hosts hide
behind ``*.example.org`` is the admin's knowledge.  What is no host name gets no record (rule R12).
Pure functions; nothing here fails or does I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from certbot_dovecot.certificates.names import is_host_name, shown

#: Seconds.  How long caches may hold a record that is wrong: an hour at most (rule D10).
TTL = 3600

SERVED, NEXT = "served", "next"
_NEXT = "  ; next key, not served yet"


@dataclass(frozen=True, order=True)
class Record:
    """One TLSA record.

    :param owner: absolute owner name, ``_993._tcp.mail.example.org.``.
    :param spki: SHA-256 of the SubjectPublicKeyInfo, upper-case hex.
    :param status: ``served``, or ``next`` for a key that has been made but is not served yet.
    :param ttl: seconds.
    """

    owner: str
    spki: str
    status: str = SERVED
    ttl: int = TTL

    @property
    def rdata(self) -> str:
        """Presentation format of the data (RFC 6698 section 2.2)."""
        return f"3 1 1 {self.spki}"

    def __str__(self) -> str:
        return f"{self.owner} {self.ttl} IN TLSA {self.rdata}"


def records(names: Iterable[str], served: Mapping[int, Sequence[str]], following: str = "") -> tuple[Record, ...]:
    """The records for hosts ``names``.

    :param names: names of the certificate; wildcards and addresses are left out.
    :param served: port to the SPKIs that its endpoints serve, as seen.
    :param following: SPKI of a key that is made but not served yet; empty if there is none.
    :returns: sorted by port, host and status.
    """
    hosts = sorted({name.rstrip(".").lower() for name in names if is_host(name)})
    found: dict[tuple[int, str, str], Record] = {}
    for port in sorted(served):
        keys = [(spki, SERVED) for spki in served[port]]
        if keys and following and following not in served[port]:
            keys.append((following, NEXT))
        for host in hosts:
            for spki, status in keys:
                found.setdefault((port, host, spki), Record(f"_{port}._tcp.{host}.", spki, status))
    return tuple(found.values())


def patterns(names: Iterable[str], served: Mapping[int, Sequence[str]], following: str = "") -> tuple[Record, ...]:
    """The records for hosts behind wildcards, with the wildcard in the place of the host; parameters as for :func:`records`.

    They are no records of the DNS: each host behind the wildcard needs its own.
    """
    wildcards = sorted(name for name in set(names) if name.startswith("*.") and is_host_name(name))
    wild = {name: f"host{number}.invalid" for number, name in enumerate(wildcards)}
    found = []
    for name, stand_in in wild.items():
        for record in records([stand_in], served, following):
            found.append(replace(record, owner=record.owner.replace(f"{stand_in}.", f"{name}.")))
    return tuple(found)


def zone(lineage: str, made: Sequence[Record], names: Iterable[str], behind: Sequence[Record] = ()) -> bytes:
    """``tlsa.zone``: a comment, and one line a record (RFC 1035 section 5.1).

    :param behind: what :func:`patterns` has for the wildcards; shown as comments.
    """
    lines = [
        f"; TLSA records of the certificate {shown(lineage)}, written by certbot-dovecot.",
        "; Publish them only in a zone that is signed with DNSSEC.",
    ]
    if any(record.status == NEXT for record in (*made, *behind)):
        lines.append("; Add a next key's record where one of the served key stands, or together with it: alone, it stops mail.")
    wildcards = sorted(name for name in set(names) if name.startswith("*.") and is_host_name(name))
    if wildcards and behind:
        some = " and ".join(wildcards)
        lines.append(f"; Each host behind {some} needs these records, with its own name in the place of the *:")
        lines += [f";   {record}" + (_NEXT if record.status == NEXT else "") for record in behind]
    if not made and not behind:
        lines.append("; No endpoint on this host was seen serving this key.")
    lines += [str(record) + (_NEXT if record.status == NEXT else "") for record in made]
    return ("\n".join(lines) + "\n").encode()


def as_json(lineage: str, made: Sequence[Record]) -> bytes:
    """``tlsa.json``: the same records for programs."""
    entries = [
        {
            "owner": record.owner,
            "ttl": record.ttl,
            "type": "TLSA",
            "usage": 3,
            "selector": 1,
            "matching_type": 1,
            "data": record.spki,
            "rdata": record.rdata,
            "status": record.status,
        }
        for record in made
    ]
    return (json.dumps({"lineage": lineage, "records": entries}, indent=1) + "\n").encode()


def is_host(name: str) -> bool:
    """Whether ``name`` is one host's DNS name: no wildcard, no address; a dot may be at its end."""
    return is_host_name(name[:-1] if name.endswith(".") else name, wildcard=False)
