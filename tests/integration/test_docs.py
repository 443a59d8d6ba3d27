"""Every command in the documentation, typed on a fresh mail host: it ends as the page says, and prints what the page shows.

How a page tells its story, and what is translated, is in :mod:`tests.lab.story`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import re
import time

import pytest

from tests.lab import commands, names, packages, story

ROOT = pathlib.Path(__file__).parents[2]
#: Whatever has a command is run; a new page needs no entry here.
PAGES = sorted(path for path in [ROOT / "README.rst", *(ROOT / "docs").glob("*.rst")] if story.steps(path.read_text()))
#: What the lab cannot run, and who does.
ELSEWHERE = {
    "apt install certbot python3-configobj python3-dnspython python3-zope.interface python3-pip": "the tests of the wheel",
    "apt install python3-certbot-dovecot": "the tests of the Debian packages",
    "apt purge python3-certbot-dovecot": "the tests of the Debian packages",
    "dnf install python3-certbot-dovecot": "the tests of the RPM package",
    "python3 -m pip install --break-system-packages --no-deps certbot-dovecot": "the tests of the wheel",
    "systemctl list-timers certbot.timer certbot-renew.timer": "a host that systemd has booted",
}
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


class Play:
    """A page being played on a host."""

    def __init__(self, lab, stack: contextlib.ExitStack) -> None:
        self.lab, self.host, self.stack = lab, lab.host, stack
        self.year = datetime.datetime.now(datetime.timezone.utc).year
        self.names = None
        self.then, self.since = datetime.datetime.now(datetime.timezone.utc), time.monotonic()

    def here(self, text: str) -> str:
        return story.localized(text, self.year)

    def sh(self, text: str, at: str = "") -> commands.Result:
        """As on a terminal: both outputs as one."""
        script = f"exec 2>&1\ncd /root\n{self.here(text)}"
        return self.host.run("sh", "-c", script, at=self.now if at else None, check=False, seconds=200)

    @property
    def now(self) -> str:
        """The date of the story, which runs on; a little ahead of the CA's."""
        then = self.then + datetime.timedelta(seconds=time.monotonic() - self.since + 2)
        return f"{then:%Y-%m-%d %H:%M:%S}"

    def step(self, step: story.Step) -> None:
        if isinstance(step, story.Typed):
            done = self.sh(step.text, step.at)
            wrong = story.differs([self.here(line) for line in step.expected], done.stdout)
            if done.code != step.code:
                wrong = f"It ended with {done.code}, not {step.code}.\n{wrong or done.stdout}"
            assert not wrong, f"line {step.line}: # {step.text}\n{wrong}"
        elif isinstance(step, story.File):
            text = self.here(step.text).replace("{secret}", self.names.secret if self.names else "")
            self.host.write(step.path, text)
            if step.path.endswith(".ini"):
                os.chmod(step.path, 0o600)
        elif isinstance(step, story.Event):
            getattr(self, f"on_{step.kind}")(step)

    def on_fresh(self, step: story.Event) -> None:
        # The name servers and the date of before go.
        self.stack.close()
        self.names = None
        self.host.reset()

    def on_now(self, step: story.Event) -> None:
        self.on_at(story.Event(step.line, "at", f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M:%S}"))

    def on_at(self, step: story.Event) -> None:
        self.then = datetime.datetime.fromisoformat(self.here(step.about)).replace(tzinfo=datetime.timezone.utc)
        self.since = time.monotonic()
        # Whoever dates something has one date: certbot, the CA, and the name server whose signature has one.
        self.lab.acme.date(self.then.timestamp())
        self.stack.callback(self.lab.acme.date, datetime.datetime.now(datetime.timezone.utc).timestamp())
        if self.names:
            self.names.set_clock(self.here(step.about))

    def on_do(self, step: story.Event) -> None:
        done = self.sh(step.about, step.at)
        assert done.code == 0, f"line {step.line}: {done}"

    def on_dovecot(self, step: story.Event) -> None:
        version = self.host.run("dovecot", "--version").stdout
        if not version.startswith(step.about):
            pytest.skip(f"the page shows the configuration of Dovecot {step.about}, and this is {version.split()[0]}")

    def on_dns(self, step: story.Event) -> None:
        if step.about == "follows":
            self.names.catch_up()
            self.names.flush()
            return
        if step.about:
            self.records(self.here(step.about.split()[1]))
            return
        lacking = packages.missing(packages.NAME_SERVERS)
        if lacking:
            pytest.skip(f"the rest of the page needs the packages {' '.join(lacking)}")
        self.names = self.stack.enter_context(names.run("knot", [names.Zone("example.test", ZONE, signed=True)]))
        self.host.write("/etc/resolv.conf", f"nameserver {names.CACHE}\n")
        self.stack.callback(self.host.write, "/etc/resolv.conf", "nameserver 127.0.0.1\n")

    def records(self, lineage: str) -> None:
        """Put what the zone file of a lineage says in the place of what the zone has."""
        sets: dict[str, list[str]] = {}
        for line in pathlib.Path(f"/etc/letsencrypt/dovecot/{lineage}/tlsa.zone").read_text().splitlines():
            if not line.startswith(";"):
                owner, _, _, _, data = line.partition(";")[0].split(maxsplit=4)
                sets.setdefault(owner, []).append(data)
        self.names.replace("example.test", sets, ttl=3600)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_page(lab, mailhost, page):
    with contextlib.ExitStack() as stack:
        play = Play(lab, stack)
        for step in story.steps(page.read_text()):
            play.step(step)


def test_what_is_run_elsewhere_is_in_the_table():
    told = {}
    for page in PAGES:
        for step in story.steps(page.read_text()):
            if isinstance(step, story.Elsewhere):
                told[re.sub(r"\s+", " ", step.text)] = step.reason
    assert told == ELSEWHERE
