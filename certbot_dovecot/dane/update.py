"""Publish at a primary name server by dynamic update (RFC 2136), signed with TSIG (RFC 8945).

One update an owner name.  It adds and deletes single records, never a set, and its prerequisite is that the set is exactly the
one that the change was computed from: if somebody else edited it in between, the server refuses, the set is read again and the
change computed again, so that nobody's record is lost.  A set with nothing to change is not touched.

Trap: BIND that signs a zone of its own (``inline-signing``) says yes to an update some milliseconds before it answers with what
was updated.  A change that was computed from such an answer is refused as any other that is too late, so a moment passes before
the set is read again.  And if the set is the one of before our own last update, it is read again before anything is computed:
that there is nothing to change would not be true.  When the DNS has it is for a survey to say, never for this room.

Aliases are followed, as far as this server has their zones (rule D15).  Of a name behind a wildcard, the wildcard is changed
(rule D21): a record at the name itself would hide it, and a prerequisite knows no wildcards (RFC 2136 section 2.4).

Fails as a :class:`~certbot_dovecot.problems.ServerProblem`: no answer, a wrong key, clocks that differ by more than TSIG
allows; as a :class:`~certbot_dovecot.problems.ZoneProblem` where the server takes no updates of a zone, or an owner name is in
none of its zones, for other zones may do (rule D23).  Owner names that were changed before stay changed; running it again does
the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update

from certbot_dovecot.dane import tlsa, wire
from certbot_dovecot.dane.answers import Data, Key
from certbot_dovecot.dane.publish import Change, Credentials, change
from certbot_dovecot.problems import ServerProblem, ZoneProblem

#: Seconds for one question or update.
SECONDS = 10.0
#: How often a change is computed again because the set was another one, and the seconds in between.
ATTEMPTS, MOMENT = 50, 0.1
#: So often a set that looks as before our own update is read again; then somebody has put it back.
_LATE = 20
_ALIASES = 8
#: RFC 2136 section 2.2; what servers say of a zone that they do not change.
_NO_UPDATES = (dns.rcode.REFUSED, dns.rcode.NOTAUTH, dns.rcode.NOTZONE, dns.rcode.NOTIMP)
_CONFLICT = (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN)


class Primary:
    """A primary name server that takes updates.

    :param credentials: where it is, and the TSIG key.
    """

    def __init__(self, credentials: Credentials, seconds: float = SECONDS) -> None:
        self.credentials, self.seconds = credentials, seconds
        self._where = f"{credentials.address} port {credentials.port}"
        try:
            self._keyring = dns.tsigkeyring.from_text({credentials.key: credentials.secret})
        except (ValueError, dns.exception.DNSException) as exc:
            raise ServerProblem(
                f"the TSIG key {credentials.key} cannot be used: {exc}", left="Nothing was published", todo=_FILE
            ) from exc
        self._algorithm = getattr(dns.tsig, credentials.algorithm.replace("-", "_"))
        #: Place to the set that our last update there was computed from.
        self._before: dict[str, frozenset[Data]] = {}

    def publish(
        self,
        owner: str,
        keys: Sequence[Key],
        ours: AbstractSet[Data],
        before: Callable[[Change], None] = lambda _: None,
        ttl: int = tlsa.TTL,
        gate: Callable[[Change], Change] = lambda change: change,
    ) -> Change:
        """See to it that ``owner`` has the records of ``keys``, and no other one of ours.

        :param owner: absolute; an alias is followed.
        :param ours: what we put there.
        :param before: called with each change before it is sent.
        :param ttl: of what is added, seconds.
        :param gate: what must not be done of a change is left out by it (:mod:`~certbot_dovecot.dane.gates`).
        :returns: what was changed; nothing where ``owner`` turns out to be behind a wildcard.
        :raises ServerProblem: as the module says.
        """
        for attempt in range(ATTEMPTS):
            target, present = self.present(owner)
            if attempt < _LATE and present == self._before.get(target):
                time.sleep(MOMENT)
                continue
            if target != owner and target.startswith("*."):
                # What else is behind that wildcard was not asked what it serves.
                return Change(target, present)
            wanted = gate(change(target, keys, present, ours, ttl))
            if wanted.crowded:
                raise self._refuses(
                    f"{wanted.owner} would have {len(wanted.after)} TLSA records, which is more than some senders can take",
                    "Remove the records of keys that are not served any more",
                )
            if wanted.idle:
                return wanted
            before(wanted)
            if self._send(wanted):
                self._before[target] = present
                return wanted
            time.sleep(MOMENT)
        raise self._refuses(f"someone else keeps editing the TLSA records of {owner}", "Run the command again later")

    def present(self, owner: str) -> tuple[str, frozenset[Data]]:
        """Where the records of ``owner`` stand, by its aliases or behind a wildcard, and the records there.

        :raises ServerProblem: as the module says.
        """
        name = dns.name.from_text(owner)
        for _ in range(_ALIASES):
            answer = self._question(name, dns.rdatatype.TLSA)
            if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not answer.flags & dns.flags.AA:
                raise self._lacks(f"it does not answer for {name} with authority ({_rcode(answer)})", _ZONE)
            hops = wire.hops_of(answer, name)
            if not hops:
                break
            if hops[-1] == name:
                records = wire.tlsa_set(answer, name)[0]
                return (self._source(answer, name, records) if records else name).to_text(), records
            name = hops[-1]
        raise self._refuses(f"the aliases of {owner} lead round", "Mend them")

    def _source(self, answer: dns.message.Message, name: dns.name.Name, records: AbstractSet[Data]) -> dns.name.Name:
        """The wildcard that the set of ``name`` was made from, else ``name``."""
        told = wire.source_of(answer, name)
        if told is not None:
            return told
        # A primary whose zone is signed elsewhere.
        every = wire.wildcards_of(name)
        return next((one for one in every if wire.tlsa_set(self._question(one, dns.rdatatype.TLSA), one)[0] == records), name)

    def zone(self, owner: str) -> dns.name.Name:
        """The zone of this server that ``owner`` is in.

        :raises ServerProblem: in none.
        """
        name = dns.name.from_text(owner)
        while name != dns.name.root:
            answer = self._question(name, dns.rdatatype.SOA)
            if answer.flags & dns.flags.AA and any(
                rrset.name == name and rrset.rdtype == dns.rdatatype.SOA for rrset in answer.answer
            ):
                return name
            name = name.parent()
        raise self._lacks(f"it has no zone that {owner} is in", _ZONE)

    def _send(self, wanted: Change) -> bool:
        """Send one change; False if the set is not any more what the change was computed from."""
        message = dns.update.UpdateMessage(self.zone(wanted.owner), keyring=self._keyring, keyalgorithm=self._algorithm)
        name = dns.name.from_text(wanted.owner)
        if wanted.present:
            for data in sorted(wanted.present):
                message.present(name, "TLSA", str(data))
        else:
            message.absent(name, "TLSA")
        for data in sorted(wanted.delete):
            message.delete(name, "TLSA", str(data))
        for data in sorted(wanted.add):
            message.add(name, wanted.ttl, "TLSA", str(data))
        answer = self._exchange(message)
        if answer.rcode() in _CONFLICT:
            return False
        if answer.rcode() in _NO_UPDATES:
            raise self._lacks(f"it takes no update of {wanted.owner} ({_rcode(answer)})", _FILE)
        if answer.rcode() != dns.rcode.NOERROR:
            raise self._refuses(f"it refuses an update of {wanted.owner} ({_rcode(answer)})", _FILE)
        return True

    def _question(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        query = dns.message.make_query(name, kind, want_dnssec=True)
        query.flags &= ~dns.flags.RD
        if self.credentials.sign_query:
            query.use_tsig(self._keyring, algorithm=self._algorithm)
        return self._exchange(query)

    def _exchange(self, message: dns.message.Message) -> dns.message.Message:
        try:
            return dns.query.tcp(message, self.credentials.address, self.seconds, self.credentials.port)
        except dns.tsig.PeerBadKey as exc:
            # Knot says so of a zone to which that key is not admitted.
            raise self._lacks(f"it does not know the TSIG key {self.credentials.key} for this zone", _FILE) from exc
        except (dns.tsig.PeerBadTime, dns.tsig.BadTime) as exc:
            # RFC 8945 section 5.2.3: it says so of our time, or we of its answer's.
            raise self._refuses(
                "its clock and that of this host differ by more than five minutes, which TSIG does not allow (BADTIME)",
                "Set both clocks (NTP), then run the command again",
            ) from exc
        except (dns.exception.DNSException, OSError, EOFError) as exc:
            said = str(exc) or type(exc).__name__
            raise self._refuses(f"no usable answer: {said}", f"See that it runs and can be reached. {_FILE}") from exc

    def _lacks(self, what: str, todo: str) -> ZoneProblem:
        return ZoneProblem(what, where=f"name server {self._where}", left="This record set was left as it was", todo=todo)

    def _refuses(self, what: str, todo: str) -> ServerProblem:
        return ServerProblem(what, where=f"name server {self._where}", left="This record set was left as it was", todo=todo)


_FILE = "See the file of --dovecot-publish-rfc2136, and the name server's log"
_ZONE = "Give the address of the primary server of that zone"


def _rcode(answer: dns.message.Message) -> str:
    return dns.rcode.to_text(answer.rcode())
