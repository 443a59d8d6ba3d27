"""Asks an endpoint over TLS which certificate it serves.

It looks, and judges nothing: names, chains, dates, protocol versions and cipher strength are not checked, because the caller
compares the leaf that came over the wire with the one that it expects.

Promises:

* What the network does is an :class:`Answer`, never an exception.
* The seconds given are a deadline for everything, from the first connection to the last byte.  A peer that hangs, drips bytes
  or talks for ever costs these seconds and 64 KiB, no more.
* A server's log stays quiet: after the handshake the greeting is read and the session ended as its protocol says, unless that
  takes longer than :data:`GOODBYE` seconds.

A server behind a proxy wants the client's address first, as a header of the PROXY protocol
(https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt).  It gets version 1, which every server that speaks the protocol
reads, with the true addresses of the connection: it then treats us like any client of this host.

STARTTLS: IMAP RFC 9051 section 6.2.1, POP3 (``STLS``) RFC 2595 section 4, ManageSieve RFC 5804 section 2.2, SMTP RFC 3207.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional, TypeVar

from certbot_dovecot.certificates.names import is_host_name
from certbot_dovecot.servers.contract import Endpoint

_Asked = TypeVar("_Asked")

#: Most threads that ask at the same time.
THREADS = 32
#: Seconds for a polite end of session.
GOODBYE = 0.25
#: Bytes that a server may say before the handshake.
MOST = 65536
#: First and longest pause between two looks of :func:`wait_until`, seconds.
PAUSES = (0.01, 0.2)

#: The label that stands for a wildcard.
_ANY = "any-host"
#: The words that end a session.
_FAREWELL = {
    "imap": b"z LOGOUT\r\n",
    "pop3": b"QUIT\r\n",
    "sieve": b"LOGOUT\r\n",
    "smtp": b"QUIT\r\n",
    "submission": b"QUIT\r\n",
}
#: TLS 1.2 ciphers of one authentication algorithm; TLS 1.3 ciphers name none, so that one cannot choose there.
_CIPHERS = {"rsa": "aRSA", "ecdsa": "aECDSA"}


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered.

    :param leaf: the certificate it served, DER; None if it served none.
    :param error: why not, in plain words; empty if it did.
    :param disagreed: whether TLS was begun and not agreed upon.
    """

    endpoint: Endpoint
    leaf: Optional[bytes] = None
    error: str = ""
    disagreed: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the leaf, upper-case hex; empty without one."""
        return hashlib.sha256(self.leaf).hexdigest().upper() if self.leaf else ""

    @functools.cached_property
    def spki(self) -> Optional[str]:
        """SHA-256 of the leaf's SubjectPublicKeyInfo, upper-case hex; None without a leaf, or with one we cannot parse."""
        if not self.leaf:
            return None
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        try:
            key = x509.load_der_x509_certificate(self.leaf).public_key()
            spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, UnsupportedAlgorithm):
            return None
        return hashlib.sha256(spki).hexdigest().upper()


@dataclass(frozen=True)
class Question:
    """What is asked of one endpoint; parameters as for :func:`ask`."""

    endpoint: Endpoint
    sni: Optional[str]
    algorithm: Optional[str] = None


class _Refused(Exception):
    """The server said something that ends the conversation; the text is the answer's error."""


class _HandshakeFailed(_Refused):
    """TLS was begun and not agreed upon."""


def sni_for(names: Iterable[str]) -> Optional[str]:
    """The host name to ask for, of a certificate's names: the first exact one, else a host under the first wildcard.

    Behind a wildcard it is a host that nobody has: another certificate may be for one by its exact name.

    :returns: None if there are only addresses, which SNI cannot carry (RFC 6066 section 3), and what is no host name.
    """
    hosts = [name for name in names if is_host_name(name)]
    exact = [name for name in hosts if not name.startswith("*.")]
    if exact:
        return exact[0]
    return f"{_ANY}.{hosts[0][2:]}" if hosts else None


def ask(endpoint: Endpoint, sni: Optional[str], seconds: float, algorithm: Optional[str] = None) -> Answer:
    """Ask ``endpoint`` which certificate it serves.

    :param sni: host name to ask for, or None.
    :param seconds: deadline for the whole exchange.
    :param algorithm: ``rsa`` or ``ecdsa``: of a server that has certificates of both, the one of this algorithm.  That takes
        TLS 1.2; a server that agrees to none of it is asked once more as any client would.
    """
    return _ask(endpoint, sni, time.monotonic() + seconds, algorithm)


def ask_as_old(endpoint: Endpoint, sni: Optional[str], seconds: float, algorithm: str) -> Answer:
    """Ask ``endpoint`` as a client that knows TLS 1.2 at most, and certificates of one algorithm only.

    :param algorithm: ``rsa`` or ``ecdsa``.
    :returns: an answer of :attr:`Answer.disagreed` if such a client is turned away.
    """
    try:
        return Answer(endpoint, _leaf(endpoint, sni, time.monotonic() + seconds, algorithm))
    except (_Refused, OSError, ValueError) as exc:
        return _failed(endpoint, sni, exc)


def ask_all(
    endpoints: Sequence[Endpoint], sni: Optional[str], seconds: float, algorithm: Optional[str] = None
) -> tuple[Answer, ...]:
    """Ask all ``endpoints`` at the same time.

    :param seconds: deadline for all of them together.
    :returns: one answer each, in their order.
    """
    deadline = time.monotonic() + seconds
    return _each(endpoints, lambda endpoint: _ask(endpoint, sni, deadline, algorithm))


def ask_each(questions: Sequence[Question], seconds: float) -> tuple[Answer, ...]:
    """Ask all ``questions``, :data:`THREADS` at the same time.

    :param seconds: deadline for each of them, from when it is asked.
    :returns: one answer each, in their order.
    """
    return _each(questions, lambda one: ask(one.endpoint, one.sni, seconds, one.algorithm))


def wait_until(
    expected: Mapping[Endpoint, str],
    sni: Optional[str],
    seconds: float,
    algorithm: Optional[str] = None,
    waiting: Callable[[Sequence[Endpoint]], None] = lambda left: None,
) -> tuple[Answer, ...]:
    """Ask all endpoints at the same time, and again those that do not serve what is expected, until they do.

    A reload takes effect after its command returned (up to 0.3 s in Dovecot's high-performance login), hence looking again.

    :param expected: SHA-256 of the leaf, hex, of each endpoint.
    :param seconds: deadline for all of it.
    :param waiting: told every second which endpoints are waited for, and at the end that there are none, if it was told.
    :returns: the last answer of each, in the order of ``expected``; compare :attr:`Answer.digest`.
    """
    deadline = time.monotonic() + seconds

    def watch(endpoint: Endpoint) -> Answer:
        pause, longest = PAUSES
        # A connection that was accepted by a process on its way out may hang: it must not take all the time. One that hung is
        # asked again with all the time there is, because a server may just be slow.
        share = seconds / 4
        while True:
            look = min(deadline, time.monotonic() + share)
            answer = _ask(endpoint, sni, look, algorithm)
            if answer.digest == expected[endpoint].upper() or time.monotonic() + pause >= deadline:
                return answer
            share = seconds if time.monotonic() >= look else seconds / 4
            time.sleep(pause)
            pause = min(2 * pause, longest)

    return _each(tuple(expected), watch, waiting)


def _each(
    asked: Sequence[_Asked],
    look: Callable[[_Asked], Answer],
    waiting: Callable[[Sequence[_Asked]], None] = lambda left: None,
) -> tuple[Answer, ...]:
    """``look`` at every one in threads; every look ends by itself, by its deadline.

    :param waiting: as for :func:`wait_until`.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(asked)):
        todo.put(number)
    answers: dict[int, Answer] = {}

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                number = todo.get_nowait()
                answers[number] = look(asked[number])

    # Daemons: an interrupted run (Ctrl-C) must not wait for them.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(THREADS, len(asked)))]
    for thread in threads:
        thread.start()
    told = False
    for thread in threads:
        while True:
            thread.join(1)
            if not thread.is_alive():
                break
            waiting([one for number, one in enumerate(asked) if number not in answers])
            told = True
    if told:
        waiting([])
    return tuple(answers[number] for number in range(len(asked)))


def _ask(endpoint: Endpoint, sni: Optional[str], deadline: float, algorithm: Optional[str]) -> Answer:
    try:
        try:
            return Answer(endpoint, _leaf(endpoint, sni, deadline, algorithm))
        except _HandshakeFailed:
            if algorithm is None:
                raise
            return Answer(endpoint, _leaf(endpoint, sni, deadline, None))
    except (_Refused, OSError, ValueError) as exc:
        return _failed(endpoint, sni, exc)


def _failed(endpoint: Endpoint, sni: Optional[str], exc: Exception) -> Answer:
    """What went wrong, in plain words."""
    if isinstance(exc, ConnectionRefusedError):
        return Answer(endpoint, error="connection refused")
    if isinstance(exc, (ConnectionResetError, BrokenPipeError)):
        return Answer(endpoint, error="closed the connection")
    if isinstance(exc, socket.timeout):
        return Answer(endpoint, error="timed out")
    if isinstance(exc, OSError):
        return Answer(endpoint, error=exc.strerror or str(exc))
    if isinstance(exc, ValueError):
        return Answer(endpoint, error=f"cannot be asked for {sni!r}: {exc}")
    return Answer(endpoint, error=str(exc), disagreed=isinstance(exc, _HandshakeFailed))


def _leaf(endpoint: Endpoint, sni: Optional[str], deadline: float, algorithm: Optional[str]) -> bytes:
    """One exchange: connect, STARTTLS, handshake, goodbye."""
    with socket.create_connection((endpoint.address, endpoint.port), _left(deadline)) as plain:
        wire = _Wire(plain, deadline)
        if endpoint.proxy:
            wire.say(_proxy_header(plain))
        if not endpoint.implicit:
            try:
                _starttls(wire, endpoint.protocol)
            except _Refused:
                _part(wire, endpoint.protocol, greeting=False)
                raise
        plain.settimeout(_left(deadline))
        with _context(algorithm).wrap_socket(plain, server_hostname=sni, do_handshake_on_connect=False) as tls:
            try:
                tls.do_handshake()
            except socket.timeout:
                raise
            except ssl.SSLError as exc:
                raise _HandshakeFailed(f"TLS handshake failed: {_reason(exc)}") from None
            except ConnectionError:
                raise _HandshakeFailed("TLS handshake failed: closed the connection") from None
            leaf = tls.getpeercert(binary_form=True)
            _part(_Wire(tls, deadline), endpoint.protocol, greeting=endpoint.implicit or endpoint.protocol == "sieve")
            if not leaf:
                raise _Refused("TLS handshake without a certificate")
            return leaf


@functools.cache
def _context(algorithm: Optional[str]) -> ssl.SSLContext:
    """A client's TLS settings that meet any server; with an algorithm, only servers that have it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    # Never an anonymous cipher: Postfix would agree to one, and serve no certificate.
    context.set_ciphers(f"{_CIPHERS[algorithm] if algorithm else 'ALL'}:!aNULL:!eNULL:@SECLEVEL=0")
    if algorithm:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


class _Wire:
    """Lines from a socket, with a deadline and a limit to what is read."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self._buffer = b""
        self._read = 0

    def line(self) -> bytes:
        """The next line, without its end."""
        while b"\n" not in self._buffer:
            if self._read >= MOST:
                raise _Refused(f"sent more than {MOST} bytes before TLS")
            self.sock.settimeout(_left(self.deadline))
            data = self.sock.recv(4096)
            if not data:
                raise _Refused("closed the connection")
            self._read += len(data)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def say(self, words: bytes) -> None:
        self.sock.settimeout(_left(self.deadline))
        self.sock.sendall(words)


def _proxy_header(sock: socket.socket) -> bytes:
    """The PROXY protocol's header, version 1 (section 2.1), that says where ``sock`` comes from and goes to."""
    (source, source_port), (target, target_port) = sock.getsockname()[:2], sock.getpeername()[:2]
    # A zone (fe80::1%eth0) is of this host only.
    source, target = source.partition("%")[0], target.partition("%")[0]
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {target} {source_port} {target_port}\r\n".encode("ascii")


def _starttls(wire: _Wire, protocol: str) -> None:
    """From the greeting to where the handshake begins.

    :raises _Refused: the server does not agree.
    """
    if protocol == "imap":
        _expect(wire.line(), b"* OK", "greeting refused")
        wire.say(b"a STARTTLS\r\n")
        line = wire.line()
        while not line.startswith(b"a "):
            line = wire.line()
        _expect(line, b"a OK", "STARTTLS refused")
    elif protocol == "pop3":
        _expect(wire.line(), b"+OK", "greeting refused")
        wire.say(b"STLS\r\n")
        _expect(wire.line(), b"+OK", "STARTTLS refused")
    elif protocol == "sieve":
        _expect(_sieve_reply(wire), b"OK", "greeting refused")
        wire.say(b"STARTTLS\r\n")
        _expect(_sieve_reply(wire), b"OK", "STARTTLS refused")
    elif protocol in ("submission", "smtp"):
        _expect(_smtp_reply(wire), b"220", "greeting refused")
        # An address literal is a valid name of a client that has no other (RFC 5321 section 4.1.3).
        here = wire.sock.getsockname()[0].partition("%")[0]
        wire.say(f"EHLO [{'IPv6:' if ':' in here else ''}{here}]\r\n".encode())
        _expect(_smtp_reply(wire), b"250", "EHLO refused")
        wire.say(b"STARTTLS\r\n")
        _expect(_smtp_reply(wire), b"220", "STARTTLS refused")
    else:
        raise _Refused(f"{protocol} has no STARTTLS that we know")


def _sieve_reply(wire: _Wire) -> bytes:
    """The line that ends a ManageSieve response; capabilities, which are quoted, come before (RFC 5804 section 1.7)."""
    while True:
        line = wire.line()
        if line[:3].rstrip(b" (").upper() in (b"OK", b"NO", b"BYE"):
            return line


def _smtp_reply(wire: _Wire) -> bytes:
    """The last line of an SMTP reply."""
    line = wire.line()
    while line[3:4] == b"-":
        line = wire.line()
    return line


def _expect(line: bytes, start: bytes, refused: str) -> None:
    if not line.upper().startswith(start.upper()):
        text = line[:200].decode("ascii", "replace")
        raise _Refused(f"{refused}: {''.join(c if c.isprintable() else '?' for c in text).strip()}")


def _part(wire: _Wire, protocol: str, greeting: bool) -> None:
    """Leave politely, in :data:`GOODBYE` seconds or not at all; the answer is known already.

    :param greeting: whether the server speaks first; Postfix logs a client that does not let it.
    """
    wire.deadline = min(wire.deadline, time.monotonic() + GOODBYE)
    with contextlib.suppress(OSError, ValueError, _Refused):
        if greeting and protocol == "sieve":
            _sieve_reply(wire)
        elif greeting and protocol in _FAREWELL:
            _smtp_reply(wire)
        if protocol in _FAREWELL:
            wire.say(_FAREWELL[protocol])
            while True:
                wire.line()


def _left(deadline: float) -> float:
    """Seconds until ``deadline``, for ``settimeout``, which takes zero for "do not wait at all"."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout
    return left


def _reason(exc: ssl.SSLError) -> str:
    if isinstance(exc, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "closed the connection"
    return (exc.reason or str(exc)).replace("_", " ").lower()


def is_own(address: str) -> bool:
    """Whether an address is one of this host's: only such an address can be bound to.  Sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.bind((address, 0))
    except (OSError, ValueError):
        return False
    return True
