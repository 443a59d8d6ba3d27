"""``make demo``: a first certificate, a renewal and a new year, as an admin sees them, on a real mail host in a namespace.

Nothing of the machine is touched, and everything is gone at the end.  Run as ``python -m tests.lab.demo``, as root, where
certbot and the plugin are installed.
"""

from __future__ import annotations

import datetime
import difflib
import shlex
import sys
import textwrap
import time
from collections.abc import Mapping
from typing import Optional

from cryptography import x509
from cryptography.x509.oid import NameOID

from certbot_dovecot.servers.probe import Answer
from tests.lab import distribution, lab
from tests.lab.commands import Failed
from tests.lab.mailhost import PORTS, Entry, MailHost

NAME = distribution.HOSTNAME
CONFIGURATIONS = ("/etc/dovecot", "/etc/postfix")


def main() -> int:
    """Show it; returns the exit code."""
    begin = time.monotonic()
    try:
        with lab.enter() as here:
            here.host.reset()
            show(here.host)
    except (lab.Unavailable, Failed) as exc:
        print(exc, file=sys.stderr)
        return 1
    print(f"\nThe daemons are stopped and the namespace is gone. It took {time.monotonic() - begin:.0f} s.")
    return 0


def show(host: MailHost) -> None:
    """The story, on a host as just installed."""
    dovecot = host.run("dovecot", "--version").stdout.split()[0]
    postfix = host.run("postconf", "-h", "mail_version").stdout.strip()
    certbots = ".".join(map(str, host.certbot_version))
    say(f"A mail host as just installed: Dovecot {dovecot}, Postfix {postfix}, certbot {certbots}, and Pebble as the CA.")
    first = table(host)

    say("One command gets a certificate, installs it and proves it.")
    installed = host.snapshot(*CONFIGURATIONS)
    certbot(host, "--installer", "dovecot", "-a", "standalone", "-d", NAME)
    say("What it changed in /etc/dovecot and /etc/postfix:")
    differences(installed, host.snapshot(*CONFIGURATIONS))
    say("What each port serves now (* is new); port 25 and main.cf are none of its business:")
    second = table(host, first)
    claim("Every port but 25 serves it.", [p for p in second if second[p].digest != second[993].digest] == [25])

    say("The timer's certbot renew, with nothing due, does nothing:")
    before, reloads = host.snapshot(*CONFIGURATIONS), counts(host)
    certbot(host, "renew", "-q")
    claim("Nothing was changed.", host.snapshot(*CONFIGURATIONS) == before)
    claim("Nothing was reloaded.", counts(host) == reloads)

    say("A renewal: a new certificate, the same key, and not one byte of the configuration changed.")
    certbot(host, "renew", "-q", "--force-renewal")
    third = table(host, second)
    claim("The key is the same.", third[993].spki == second[993].spki and third[993].leaf != second[993].leaf)
    claim("The configuration is as it was.", host.snapshot(*CONFIGURATIONS) == before)

    new_year = datetime.datetime.now(datetime.timezone.utc).year + 1
    say(f"The first renewal of {new_year}: a new key.")
    certbot(host, "renew", "-q", at=f"{new_year}-01-25 12:00:00")
    differences(before, host.snapshot(*CONFIGURATIONS))
    print()
    fourth = table(host, third)
    claim("The key is new.", fourth[993].spki != third[993].spki)

    say("The records for the DNS, of what is served and nothing else:")
    with open(f"/etc/letsencrypt/dovecot/{NAME}/tlsa.zone") as file:
        print(textwrap.indent(file.read(), "  "), end="")

    say("And back: certbot rollback gives the former configuration its bytes again.")
    certbot(host, "rollback", "--installer", "dovecot", "--checkpoints", "2")
    claim("The configuration is the one of the beginning.", host.snapshot(*CONFIGURATIONS) == installed)
    table(host)


def certbot(host: MailHost, *args: str, at: Optional[str] = None) -> None:
    """Run certbot and show what it says, as on a terminal."""
    faked = f"faketime {shlex.quote(at)} " if at else ""
    print(f"  # {faked}certbot {shlex.join(args)}")
    begin = time.monotonic()
    result = host.certbot(*args, at=at)
    for text in (result.stderr, result.stdout):
        if text.strip():
            print(textwrap.indent(text.strip("\n"), "  | "))
    print(f"  (exit {result.code}, {time.monotonic() - begin:.1f} s)\n")


def table(host: MailHost, before: Optional[Mapping[int, Answer]] = None) -> dict[int, Answer]:
    """Show what every port serves; ``*`` marks what is not as it was before."""
    answers = {}
    print(f"  {'port':<6}{'protocol':<12}{'TLS':<10}{'certificate':<19}{'key':<19}{'issuer':<32}until")
    for port, protocol, implicit in PORTS:
        answer = answers[port] = host.served(port)
        how = f"{port:<6}{protocol:<12}{'implicit' if implicit else 'STARTTLS':<10}"
        if answer.leaf is None:
            print(f"  {how}{answer.error}")
            continue
        was = before.get(port) if before else None
        leaf = answer.digest[:16] + ("*" if was and was.digest != answer.digest else "")
        key = (answer.spki or "")[:16] + ("*" if was and was.spki != answer.spki else "")
        cert = x509.load_der_x509_certificate(answer.leaf)
        print(f"  {how}{leaf:<19}{key:<19}{issuer(cert):<32}{until(cert)}")
    return answers


def differences(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> None:
    """Show two snapshots' differences, line by line."""
    for path in sorted({**before, **after}):
        old, new = before.get(path, Entry(0, (0, 0))), after.get(path, Entry(0, (0, 0)))
        if old.data != new.data:
            print(f"  {path}")
            texts = [(data or b"").decode().splitlines() for data in (old.data, new.data)]
            for line in difflib.unified_diff(*texts, lineterm="", n=0):
                if not line.startswith(("---", "+++", "@@")):
                    print(f"    {line}")


def counts(host: MailHost) -> tuple[int, int]:
    """Reloads of both servers so far."""
    return host.reloads("dovecot"), host.reloads("postfix")


def issuer(cert: x509.Certificate) -> str:
    """The name of who signed it."""
    names = cert.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def until(cert: x509.Certificate) -> str:
    """The last day of its validity."""
    last = cert.not_valid_after_utc if hasattr(cert, "not_valid_after_utc") else cert.not_valid_after
    return f"{last:%Y-%m-%d}"


def claim(text: str, true: bool) -> None:
    """Show what was seen to be so.

    :raises Failed: it is not.
    """
    if not true:
        raise Failed(f"This is not so: {text}")
    print(f"  {text}")


def say(text: str) -> None:
    """A line of the story."""
    print(f"\n\n{text}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
