"""Plays a page of the documentation on the mail host of a lab (:mod:`tests.lab.story` reads it).

``python3 -m tests.lab.play docs/renewals.rst``, as root, prints what each of its commands prints: for whoever writes one.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import pathlib
import sys
import time
from typing import Optional

from cryptography.hazmat.primitives.serialization import Encoding

from tests.lab import ca, commands, distribution, lab, names, nginx, packages, story
from tests.lab.lab import Lab

ZONE = """\
$ORIGIN example.test.
$TTL 3600
@ IN SOA ns1 hostmaster 1 3600 600 86400 300
@ IN NS ns1
@ IN NS ns2
ns1 IN A 127.0.0.2
ns2 IN A 127.0.0.3
mail IN A 127.0.0.1
"""
#: Where commands are typed: in the home of root, which is the lab's own.
HOME = "/root"


class NotHere(Exception):
    """The rest of a page is not for this host; the text says why."""


class Untrue(AssertionError):
    """A command does not do what its page says; the text has the line, and both."""


class Play:
    """A page being played; a context manager, at whose end the name servers stop and the CA has today's date again."""

    def __init__(self, here: Lab) -> None:
        self.lab, self.host = here, here.host
        self.year = _now().year
        self.names: Optional[names.Names] = None
        self.then, self.since = _now(), time.monotonic()
        self._stack = contextlib.ExitStack()
        self._authority = ca.CA.make("Example CA", steps=2)

    def __enter__(self) -> Play:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def step(self, step: story.Step) -> str:
        """Do the next step.

        :returns: what was printed.
        :raises Untrue: not what the page says.
        :raises NotHere: it cannot be done on this host.
        """
        if isinstance(step, story.Typed):
            done = self._sh(step.text, step.at)
            wrong = story.differs([self._here(line) for line in step.expected], done.stdout, dated=bool(step.at))
            if done.code != step.code:
                wrong = f"It ended with {done.code}, not {step.code}.\n{wrong or done.stdout}"
            if wrong:
                raise Untrue(f"line {step.line}: # {step.text}\n{wrong}")
            return done.stdout
        if isinstance(step, story.File):
            self.host.write(step.path, self._here(step.text).replace("{secret}", self.names.secret if self.names else ""))
            # What has a secret must not be for everybody, and it does no harm to what has none.
            os.chmod(step.path, 0o600)
        elif isinstance(step, story.Event):
            getattr(self, f"_{step.kind}")(step)
        return ""

    def printed(self, step: story.Typed) -> str:
        """What a command prints, whatever the page says."""
        done = self._sh(step.text, step.at)
        return f"# {step.text}    (exit {done.code})\n{done.stdout}"

    def _here(self, text: str) -> str:
        return story.localized(text, self.year)

    def _sh(self, text: str, at: str) -> commands.Result:
        """As on a terminal: both outputs as one."""
        script = f"exec 2>&1\ncd {HOME}\n{self._here(text)}"
        # A little ahead of the CA's clock, whose certificates would not be valid yet.
        date = self.then + datetime.timedelta(seconds=time.monotonic() - self.since + 2)
        return self.host.run("sh", "-c", script, at=f"{date:%Y-%m-%d %H:%M:%S}" if at else None, check=False, seconds=200)

    def _fresh(self, step: story.Event) -> None:
        # The name servers and the date of before go.
        self._stack.close()
        self.names = None
        self.host.reset()

    def _now(self, step: story.Event) -> None:
        self._set(_now())

    def _at(self, step: story.Event) -> None:
        self._set(datetime.datetime.fromisoformat(self._here(step.about)).replace(tzinfo=datetime.timezone.utc))

    def _set(self, date: datetime.datetime) -> None:
        """Whoever dates something has one date: certbot, the CA, and the name server whose signatures have one."""
        self.then, self.since = date, time.monotonic()
        try:
            self.lab.acme.date(date.timestamp())
        except lab.Unavailable as exc:
            raise NotHere(f"the rest of the page needs {exc}") from exc
        self._stack.callback(lambda: self.lab.acme.date(time.time()))
        if self.names:
            self.names.set_clock(f"{date:%Y-%m-%d %H:%M:%S}")

    def _do(self, step: story.Event) -> None:
        done = self._sh(step.about, step.at)
        if done.code:
            raise Untrue(f"line {step.line}: {step.about}\n{done}")

    def _ca(self, step: story.Event) -> None:
        """As CAs mail it: the certificate for a year, and a bundle with the root, the wrong way up."""
        request, cert, bundle = (pathlib.Path(HOME, path) for path in self._here(step.about).split())
        begin = (self.then - _now()).total_seconds() if step.at else 0.0
        made = self._authority.answer(request.read_bytes(), begin=begin - ca.DAY, end=begin + 365 * ca.DAY)
        above = [self._authority.root.cert, *reversed(made.chain)]
        cert.write_bytes(made.cert_pem)
        bundle.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in above))

    def _dovecot(self, step: story.Event) -> None:
        version = self.host.run("dovecot", "--version").stdout
        if not version.startswith(step.about):
            raise NotHere(f"the page shows the configuration of Dovecot {step.about}, and this is {version.split()[0]}")

    def _dns(self, step: story.Event) -> None:
        if self.names and step.about == "follows":
            self.names.catch_up()
            self.names.flush()
        elif self.names and step.about:
            self._records(self.names, self._here(step.about.split()[1]))
        else:
            lacking = packages.missing(packages.NAME_SERVERS)
            if lacking:
                raise NotHere(f"the rest of the page needs the packages {' '.join(lacking)}")
            zone = names.Zone("example.test", ZONE, signed=True)
            self.names = self._stack.enter_context(names.run("knot", [zone]))
            self.host.write("/etc/resolv.conf", f"nameserver {names.CACHE}\n")
            self._stack.callback(self.host.write, "/etc/resolv.conf", "nameserver 127.0.0.1\n")

    def _nginx(self, step: story.Event) -> None:
        if importlib.util.find_spec("certbot_nginx") is None:
            raise NotHere("the rest of the page needs certbot-nginx")
        try:
            self._stack.enter_context(nginx.run(distribution.HOSTNAME))
        except lab.Unavailable as exc:
            raise NotHere(f"the rest of the page needs {exc}") from exc

    def _records(self, servers: names.Names, lineage: str) -> None:
        """Put what the zone file of a lineage says in the place of what the zone has."""
        sets: dict[str, list[str]] = {}
        for line in pathlib.Path(f"/etc/letsencrypt/dovecot/{lineage}/tlsa.zone").read_text().splitlines():
            if not line.startswith(";"):
                owner, _, _, _, data = line.partition(";")[0].split(maxsplit=4)
                sets.setdefault(owner, []).append(data)
        servers.replace("example.test", sets, ttl=3600)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def main(page: str) -> int:
    """Print what the commands of a page print; returns the exit code."""
    told = story.steps(pathlib.Path(page).read_text())
    try:
        with lab.enter() as here:
            here.host.reset()
            with Play(here) as play:
                for step in told:
                    if isinstance(step, story.Typed):
                        print(play.printed(step), flush=True)
                    else:
                        play.step(step)
    except (lab.Unavailable, NotHere, Untrue) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 -m tests.lab.play PAGE")
    sys.exit(main(sys.argv[1]))
