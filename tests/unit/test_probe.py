"""The probe against peers on loopback that behave, and peers that do not."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from certbot_dovecot.servers import probe
from certbot_dovecot.servers.contract import Endpoint

#: Seconds that a busy machine may need for what takes none.
BUSY = 2.0
#: What a server says before TLS: after each part it waits for a line of the client.
DIALOGUES = {
    "imap": [b"* OK hi\r\n", b"* CAPABILITY IMAP4rev1\r\na OK begin\r\n"],
    "pop3": [b"+OK hi\r\n", b"+OK begin\r\n"],
    "sieve": [b'"IMPLEMENTATION" "x"\r\n"OKAY" "NO"\r\n"STARTTLS"\r\nOK\r\n', b'OK "begin"\r\n'],
    "smtp": [b"220-hi\r\n220 there\r\n", b"250-me\r\n250 STARTTLS\r\n", b"220 2.0.0 begin\r\n"],
    "submission": [b"220 there\r\n", b"250 me\r\n", b"220 begin\r\n"],
}


def pair(path, key, name="a.example"):
    """A self-signed certificate and its key in one file; returns the DER."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + cert.public_bytes(serialization.Encoding.PEM)
    )
    return cert.public_bytes(serialization.Encoding.DER)


@pytest.fixture(scope="module")
def ecdsa(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "ecdsa.pem"
    return path, pair(path, ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def rsa_pair(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "rsa.pem"
    return path, pair(path, rsa.generate_private_key(65537, 2048))


def server_context(*paths):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for path in paths:
        context.load_cert_chain(str(path))
    return context


@pytest.fixture
def listen():
    """Serve every connection with ``handler(connection)``; returns the port."""
    with contextlib.ExitStack() as stack:

        def start(handler):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def accept():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        threading.Thread(target=serve, args=(connection,), daemon=True).start()

            def serve(connection):
                with connection, contextlib.suppress(OSError):
                    handler(connection)

            threading.Thread(target=accept, daemon=True).start()
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return listener.getsockname()[1]

        yield start


def endpoint(port, protocol="imap", implicit=True):
    return Endpoint("test", protocol, "127.0.0.1", port, implicit)


def tls(context, dialogue=(), greeting=b"", heard=None):
    """A handler: the dialogue, TLS, the greeting, and what the client says after it."""

    def handle(connection):
        for number, words in enumerate(dialogue):
            connection.sendall(words)
            if number < len(dialogue) - 1:
                assert connection.recv(1000).endswith(b"\r\n")
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.sendall(greeting)
            words = wrapped.recv(1000)
            if heard is not None:
                heard.append(words)

    return handle


def test_implicit_tls_answers_the_leaf_and_its_key(listen, ecdsa):
    path, leaf = ecdsa
    answer = probe.ask(endpoint(listen(tls(server_context(path), greeting=b"* OK hi\r\n"))), "a.example", 5)
    assert answer.leaf == leaf
    assert answer.digest == hashlib.sha256(leaf).hexdigest().upper()
    key = x509.load_der_x509_certificate(leaf).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert answer.spki == hashlib.sha256(spki).hexdigest().upper()
    assert answer.error == ""


@pytest.mark.parametrize("protocol", sorted(DIALOGUES))
def test_starttls_of_every_protocol_and_a_polite_end(listen, ecdsa, protocol):
    path, leaf = ecdsa
    heard = []
    again = b"OK\r\n" if protocol == "sieve" else b""
    port = listen(tls(server_context(path), DIALOGUES[protocol], again, heard))
    assert probe.ask(endpoint(port, protocol, False), "a.example", 5).leaf == leaf
    assert heard[0].rstrip() in (b"z LOGOUT", b"LOGOUT", b"QUIT")


@pytest.mark.parametrize(
    ("protocol", "dialogue", "error"),
    [
        ("imap", [b"* BYE full\r\n"], "greeting refused: * BYE full"),
        ("imap", [b"* OK hi\r\n", b"a BAD \x1b[2Jwhat\r\n"], "STARTTLS refused: a BAD ?[2Jwhat"),
        ("pop3", [b"+OK hi\r\n", b"-ERR no\r\n"], "STARTTLS refused: -ERR no"),
        ("sieve", [b"OK\r\n", b'NO "no"\r\n'], 'STARTTLS refused: NO "no"'),
        ("smtp", [b"554 go away\r\n"], "greeting refused: 554 go away"),
        ("smtp", [b"220 hi\r\n", b"502 no\r\n"], "EHLO refused: 502 no"),
        ("smtp", [b"220 hi\r\n", b"250 me\r\n", b"454 4.7.0 no TLS\r\n"], "STARTTLS refused: 454 4.7.0 no TLS"),
        ("imap", [b"* OK hi\r\n", b""], "closed the connection"),
        ("imap", [b"x" * 100000], "sent more than 65536 bytes before TLS"),
        ("lmtp", [b"220 hi\r\n"], "lmtp has no STARTTLS that we know"),
    ],
)
def test_a_server_without_starttls_is_quoted(listen, protocol, dialogue, error):
    def handle(connection):
        for words in dialogue:
            connection.sendall(words)
            if words:
                connection.recv(1000)

    assert probe.ask(endpoint(listen(handle), protocol, False), None, 5).error == error


def test_what_is_not_there(listen):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert probe.ask(endpoint(port), None, 5).error == "connection refused"
    assert probe.ask(endpoint(listen(lambda _: None)), None, 5).error == "TLS handshake failed: closed the connection"


def test_no_tls_behind_the_port(listen):
    answer = probe.ask(endpoint(listen(lambda c: (c.sendall(b"* OK hi\r\n"), c.recv(1000)))), None, 5)
    assert answer.error.startswith("TLS handshake failed: ")
    assert answer.digest == ""
    assert answer.spki is None


def drip(connection):
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("handler", [lambda c: time.sleep(3), drip])
def test_the_seconds_are_a_deadline(listen, handler, implicit):
    begin = time.monotonic()
    answer = probe.ask(endpoint(listen(handler), implicit=implicit), None, 0.2)
    assert time.monotonic() - begin < 0.2 + BUSY
    assert answer.leaf is None
    assert answer.error == "timed out" or handler is drip


def test_a_server_that_is_silent_after_the_handshake_costs_no_more_than_the_goodbye(listen, ecdsa):
    path, leaf = ecdsa
    begin = time.monotonic()
    answer = probe.ask(endpoint(listen(tls(server_context(path)))), None, 5)
    assert answer.leaf == leaf
    assert time.monotonic() - begin < probe.GOODBYE + BUSY


def test_a_drip_of_lines_after_the_handshake_costs_no_more_either(listen, ecdsa):
    path, leaf = ecdsa
    context = server_context(path)

    def handle(connection):
        with context.wrap_socket(connection, server_side=True) as wrapped:
            while True:
                wrapped.sendall(b"220-more\r\n")
                time.sleep(0.01)

    begin = time.monotonic()
    assert probe.ask(endpoint(listen(handle), "submission"), None, 5).leaf == leaf
    assert time.monotonic() - begin < probe.GOODBYE + BUSY


def test_an_algorithm_chooses_the_leaf(listen, ecdsa, rsa_pair):
    port = listen(tls(server_context(ecdsa[0], rsa_pair[0]), greeting=b"* OK hi\r\n"))
    assert probe.ask(endpoint(port), None, 5, "rsa").leaf == rsa_pair[1]
    assert probe.ask(endpoint(port), None, 5, "ecdsa").leaf == ecdsa[1]


def test_an_old_client_is_turned_away_or_not(listen, ecdsa, rsa_pair):
    one, both = listen(tls(server_context(ecdsa[0]))), listen(tls(server_context(ecdsa[0], rsa_pair[0])))
    assert probe.ask_as_old(endpoint(one), None, 5, "ecdsa").leaf == ecdsa[1]
    assert probe.ask_as_old(endpoint(both), None, 5, "rsa").leaf == rsa_pair[1]
    answer = probe.ask_as_old(endpoint(one), None, 5, "rsa")
    assert (answer.leaf, answer.disagreed) == (None, True)
    assert answer.error.startswith("TLS handshake failed")
    modern = server_context(ecdsa[0])
    modern.minimum_version = ssl.TLSVersion.TLSv1_3
    assert probe.ask_as_old(endpoint(listen(tls(modern))), None, 5, "ecdsa").disagreed
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        answer = probe.ask_as_old(endpoint(free.getsockname()[1]), None, 5, "rsa")
        assert (answer.error, answer.disagreed) == ("connection refused", False)


def test_an_algorithm_that_is_not_there_still_gets_an_answer(listen, ecdsa):
    port = listen(tls(server_context(ecdsa[0]), greeting=b"* OK hi\r\n"))
    assert probe.ask(endpoint(port), None, 5, "rsa").leaf == ecdsa[1]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_protocols_are_seen(listen, rsa_pair):
    context = server_context(rsa_pair[0])
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert probe.ask(endpoint(listen(tls(context, greeting=b"* OK hi\r\n"))), None, 5).leaf == rsa_pair[1]


def test_an_anonymous_cipher_is_never_chosen(listen, ecdsa):
    context = server_context(ecdsa[0])
    context.set_ciphers("aNULL:aECDSA:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert probe.ask(endpoint(listen(tls(context, greeting=b"* OK hi\r\n"))), None, 5).leaf == ecdsa[1]


def test_the_name_is_asked_for(listen, ecdsa):
    names = []
    context = server_context(ecdsa[0])
    context.sni_callback = lambda sock, name, ctx: names.append(name)
    port = listen(tls(context, greeting=b"* OK hi\r\n"))
    probe.ask(endpoint(port), "a.example", 5)
    probe.ask(endpoint(port), None, 5)
    assert names == ["a.example", None]
    assert "cannot be asked for" in probe.ask(endpoint(port), ".", 5).error


def test_all_are_asked_at_once_and_answered_in_order(listen, ecdsa):
    path, leaf = ecdsa
    good = listen(tls(server_context(path), greeting=b"* OK hi\r\n"))
    hung = listen(lambda c: time.sleep(3))
    begin = time.monotonic()
    answers = probe.ask_all([endpoint(hung), endpoint(good), endpoint(hung, "pop3")], None, 1)
    # One after the other, it were two seconds.
    assert time.monotonic() - begin < 1.9
    assert [answer.leaf for answer in answers] == [None, leaf, None]
    assert [answer.endpoint.port for answer in answers] == [hung, good, hung]
    assert probe.ask_all([], None, 1) == ()


def test_waiting_ends_when_the_last_endpoint_serves_the_new_leaf(listen, ecdsa, rsa_pair):
    old, new = server_context(rsa_pair[0]), server_context(ecdsa[0])
    begin = time.monotonic()

    def handle(connection):
        late = time.monotonic() - begin > 0.2
        tls(new if late else old, greeting=b"* OK hi\r\n")(connection)

    wanted = hashlib.sha256(ecdsa[1]).hexdigest()
    ports = [listen(handle), listen(tls(new, greeting=b"* OK hi\r\n"))]
    answers = probe.wait_until({endpoint(port): wanted for port in ports}, None, 5, "ecdsa")
    assert [answer.leaf for answer in answers] == [ecdsa[1], ecdsa[1]]
    assert 0.2 < time.monotonic() - begin < 0.2 + BUSY


def test_waiting_survives_one_connection_that_hangs(listen, ecdsa):
    context = server_context(ecdsa[0])
    seen = []

    def handle(connection):
        seen.append(1)
        if len(seen) == 1:
            time.sleep(10)
        tls(context, greeting=b"* OK hi\r\n")(connection)

    answers = probe.wait_until({endpoint(listen(handle)): hashlib.sha256(ecdsa[1]).hexdigest()}, None, 1.5)
    assert answers[0].leaf == ecdsa[1]


def test_waiting_gives_up_with_the_last_answer(listen, ecdsa):
    path, leaf = ecdsa
    begin = time.monotonic()
    port = listen(tls(server_context(path), greeting=b"* OK hi\r\n"))
    answers = probe.wait_until({endpoint(port): "00" * 32}, None, 1)
    assert answers[0].leaf == leaf
    assert 0.5 < time.monotonic() - begin < 1 + BUSY
    assert probe.wait_until({}, None, 5) == ()


@pytest.mark.parametrize(
    ("names", "sni"),
    [
        (["mail.example.org", "imap.example.org"], "mail.example.org"),
        (["*.example.org"], "any-host.example.org"),
        (["*.example.org", "example.org"], "example.org"),
        (["192.0.2.1", "2001:db8::1"], None),
        (["192.0.2.1", "mail.example.org"], "mail.example.org"),
        ([], None),
    ],
)
def test_the_name_to_ask_for(names, sni):
    assert probe.sni_for(names) == sni
