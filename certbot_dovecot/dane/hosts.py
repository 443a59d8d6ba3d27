"""Under which host names others reach this host, whatever names its certificate has (rule D19).  Pure.

A client that uses a ``3 1 1`` record checks no name (RFC 7671 section 5.1).  So a record of our key may stand at a host name
that the certificate does not have, and mail stops when the key changes without it.  Such names are:

* Postfix's ``myhostname`` and the system's own name;
* the MX hosts of the domains that Postfix takes mail for (RFC 5321 section 5.1: the domain itself if it has no MX record);
* the canonical name of a host that is an alias: a client looks there first (RFC 7671 section 7).

A name counts if one of its addresses is this host's.  If its addresses cannot be found out, it counts as well: the rules keep
the old key on any doubt (rule R4).

:mod:`~certbot_dovecot.dane.survey` does the lookups.  Nothing here fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Callable, Optional

from certbot_dovecot.certificates.names import is_host_name

#: Names that no public resolver knows (RFC 6761, RFC 6762, RFC 8375, RFC 9476): others cannot reach a host by them.
_PRIVATE = ("localhost", "localdomain", "local", "internal", "invalid", "alt", "home.arpa")


@dataclass(frozen=True)
class Lookup:
    """What a resolver says of hosts and mail domains.  All names are lower case, without the final dot.

    :param addresses: host to its IPv4 and IPv6 addresses; empty if it has none, None if there was no usable answer.
    :param aliases: host to its canonical name, for hosts that are aliases.
    :param exchangers: mail domain to its MX hosts; empty if it has none, None if there was no usable answer.
    """

    addresses: Mapping[str, Optional[tuple[str, ...]]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    exchangers: Mapping[str, Optional[tuple[str, ...]]] = field(default_factory=dict)

    def mail_hosts(self, domain: str) -> tuple[str, ...]:
        """The hosts that mail for ``domain`` is delivered to."""
        hosts = self.exchangers.get(domain)
        # Without an MX record the domain is its own mail host; with no answer, it is not known.
        return (domain,) if hosts == () else hosts or ()


def is_public(name: str) -> bool:
    """Whether others can look ``name`` up in the DNS: a host name of two labels or more, in no private zone."""
    name = name.lower()
    private = any(name == zone or name.endswith(f".{zone}") for zone in _PRIVATE)
    return is_host_name(name, wildcard=False) and "." in name and not private


def others(
    hosts: Iterable[str], own: Iterable[str], domains: Iterable[str], lookup: Lookup, is_ours: Callable[[str], bool]
) -> tuple[str, ...]:
    """The host names beyond ``hosts`` under which this host is reached.

    :param hosts: the host names of the certificate, and those that the admin named.
    :param own: ``myhostname`` and the system's own name.
    :param domains: the domains that Postfix takes mail for.
    :param is_ours: whether an address is one of this host's.
    :returns: sorted, lower case, without the final dot.
    """
    known = {host.lower() for host in hosts}
    # Behind network address translation, the address in the DNS is not on an interface: what our names lead to is ours, too.
    ours = {address for host in known for address in lookup.addresses.get(host) or ()}

    def leads_here(host: str) -> bool:
        found = lookup.addresses.get(host)
        return found is None or any(address in ours or is_ours(address) for address in found)

    candidates = {name.lower() for name in own} | {host for domain in domains for host in lookup.mail_hosts(domain)}
    reached = known | {name for name in candidates if is_public(name) and leads_here(name)}
    aliases = {lookup.aliases[name] for name in reached if name in lookup.aliases}
    return tuple(sorted((reached | {name for name in aliases if is_public(name)}) - known))
