"""What every address behind an owner name serves (rule D18).

Several hosts may share a name.  A record set is right only if it matches what each address of the host name serves, so each
address, as the DNS has it, is asked on the port of the owner name, with the host name as SNI.  A balancer or a proxy in front
is asked as any client would ask it.

What the network does is an answer, never an exception: an address that cannot be asked says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from certbot_dovecot import bundle as bundles
from certbot_dovecot.dane import standing
from certbot_dovecot.dane.answers import AddressAnswer, Key, Owner, host_of
from certbot_dovecot.servers.contract import Endpoint
from certbot_dovecot.servers.probe import Answer, Question

if TYPE_CHECKING:
    from certbot_dovecot.rollover.owner_names import OwnerNames
    from certbot_dovecot.watch import Way

#: Seconds for one address.
SECONDS = 5.0
#: Port to protocol and whether TLS is implicit (RFC 8314, RFC 5804), for ports that are not ours to configure.
_PORTS = {
    25: ("smtp", False),
    110: ("pop3", False),
    143: ("imap", False),
    465: ("submission", True),
    587: ("submission", False),
    993: ("imap", True),
    443: ("https", True),
    995: ("pop3", True),
    4190: ("sieve", False),
}


def ask(way: Way, names: OwnerNames, owners: Iterable[Owner], every: bool = False) -> tuple[AddressAnswer, ...]:
    """Ask every address of the hosts of ``owners`` that have records which count.

    :param names: tells the addresses and the protocols.
    :param every: also those without records.
    :returns: one answer for each owner name and address; one without an address for a host whose addresses are not known.
    """
    found: list[AddressAnswer] = []
    asked: list[tuple[str, Question]] = []
    for owner in owners:
        protocol, implicit = names.endpoints.get(owner.port) or _PORTS.get(owner.port, ("", True))
        host = host_of(owner.name)
        addresses = names.hosts.lookup.addresses.get(host)
        if not (every or standing.counts(owner)) or not owner.port:
            continue
        if addresses is None:
            found.append(AddressAnswer(owner.name, "", None, "the resolver gives no answer"))
        for address in addresses or ():
            asked.append((owner.name, Question(Endpoint("address", protocol, address, owner.port, implicit), host)))
    answers = way.ask_each([question for _, question in asked], SECONDS)
    found += [_answer(name, answer) for (name, _), answer in zip(asked, answers)]
    return tuple(found)


def _answer(owner: str, answer: Answer) -> AddressAnswer:
    address = answer.endpoint.address
    if answer.leaf is None:
        return AddressAnswer(owner, address, None, answer.error or "no certificate")
    try:
        key = Key(*bundles.digests_of(x509.load_der_x509_certificate(answer.leaf)))
    except (ValueError, UnsupportedAlgorithm):
        return AddressAnswer(owner, address, None, "its certificate cannot be parsed")
    return AddressAnswer(owner, address, key)
