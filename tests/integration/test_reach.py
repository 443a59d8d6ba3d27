"""Whatever certbot is told, a renewal reaches the servers; or status and doctor say that it will not, and what helps."""

from __future__ import annotations

import os
import re
import sys

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME
from tests.integration.test_renew import NEW_YEAR
from tests.integration.test_shared import FOUND, advised, conf, do, status

HOOK = "/etc/letsencrypt/renewal-hooks/deploy/certbot-dovecot"
INI = "/etc/letsencrypt/cli.ini"
#: certbot as a host has it that has no plugin, a snap beside the package: the plugin is not found.
_WITHOUT = """
import importlib.metadata as metadata, sys
found = metadata.entry_points
metadata.entry_points = lambda **how: [one for one in found(**how) if one.name != "dovecot"]
from certbot.main import main
sys.exit(main(sys.argv[1:]))
"""


def is_served(host) -> bool:
    return set(view.leaves(host).values()) == {view.live_leaf(NAME)}


def doctor(host) -> str:
    return host.run("certbot-dovecot", "doctor", check=False).stdout


@pytest.mark.parametrize("where", ["cli.ini", "command line"])
def test_updates_that_are_switched_off(mailhost, where):
    mailhost.certbot(*INSTALL)
    said = ["--disable-renew-updates"] if where == "command line" else []
    if not said:
        mailhost.append(INI, "disable-renew-updates = true\n")
        assert f"renew-updates: {NAME}: certbot renew calls the installer only when" in doctor(mailhost)
    key = view.spki(f"/etc/letsencrypt/live/{NAME}/cert.pem")
    old = view.live_leaf(NAME)
    mailhost.certbot("renew", "-q", "--force-renewal", *said)
    assert view.live_leaf(NAME) != old
    assert is_served(mailhost)
    assert view.spki(f"/etc/letsencrypt/live/{NAME}/cert.pem") == key
    # What fails is heard under -q, and what is left to do is said as it is: no renewal comes by before the next one is due.
    mailhost.stop("postfix")
    failed = mailhost.certbot("renew", "-q", "--force-renewal", *said, check=False)
    assert failed.code == 1
    assert "Postfix does not run" in failed.stderr
    assert f"certbot-dovecot deploy {NAME} then proves it" in failed.stderr
    mailhost.start("postfix")
    mailhost.certbot("renew", "-q", *said)
    left = status(mailhost)
    assert left.code == FOUND
    if not said:
        assert "The next certbot renew" not in left.stdout
        do(mailhost, advised(left.stdout, "This does it:"))
        assert status(mailhost).code == 0
    # The new year's key is told, too.
    told = mailhost.certbot("renew", "-q", "--force-renewal", *said, at=NEW_YEAR)
    assert f"3 1 1 {view.spki(f'/etc/letsencrypt/live/{NAME}/cert.pem')}" in told.stderr
    assert is_served(mailhost)


@pytest.mark.parametrize("how", ["certonly", "null", "no plugin", "by hand"])
def test_whatever_takes_the_installer_out_of_the_renewal_configuration(mailhost, how):
    """The hook is there from the first install on, and is what brings the next renewal."""
    mailhost.certbot(*INSTALL)
    assert status(mailhost).code == 0
    old = view.live_leaf(NAME)
    if how == "certonly":
        mailhost.certbot("certonly", "-a", "standalone", "--cert-name", NAME, "-d", NAME, "--force-renewal")
    elif how == "null":
        if mailhost.certbot_version < (2, 3):
            pytest.skip("certbot before 2.3 has no reconfigure")
        mailhost.certbot("reconfigure", "--cert-name", NAME, "--installer", "null", "--server", mailhost.acme)
        mailhost.certbot("renew", "-q", "--force-renewal")
    elif how == "by hand":
        mailhost.write(f"/etc/letsencrypt/renewal/{NAME}.conf", conf(NAME).replace("installer = dovecot", "installer = None"))
        mailhost.certbot("renew", "-q", "--force-renewal")
    else:
        if mailhost.certbot_version < (2, 8):
            pytest.skip("certbot before 2.8 finds its plugins otherwise")
        mailhost.run(sys.executable, "-c", _WITHOUT, "renew", "-q", "--force-renewal", seconds=120)
    assert "installer = dovecot" not in conf(NAME)
    assert view.live_leaf(NAME) != old
    assert is_served(mailhost)
    if "reuse_key = True" not in conf(NAME):
        # What status says makes the annual key ours again.
        said = status(mailhost)
        assert said.code == FOUND
        do(mailhost, advised(said.stdout, "To keep the key:"))
        assert status(mailhost).code == 0
        assert "installer = dovecot" in conf(NAME)
    key = view.spki(f"/etc/letsencrypt/live/{NAME}/cert.pem")
    mailhost.certbot("renew", "-q", "--force-renewal")
    assert is_served(mailhost)
    assert view.spki(f"/etc/letsencrypt/live/{NAME}/cert.pem") == key


@pytest.mark.long
def test_nothing_brings_renewals_and_what_is_advised_helps(mailhost):
    """The hook is gone, is not executable, or switched off; each remedy is done as it is said."""
    mailhost.certbot("certonly", "-a", "standalone", "-d", NAME, "--reuse-key")
    mailhost.certbot("install", "--cert-name", NAME, "--installer", "dovecot")
    assert status(mailhost).code == 0

    def lost(why: str) -> str:
        old = view.live_leaf(NAME)
        mailhost.certbot("renew", "-q", "--force-renewal")
        assert view.live_leaf(NAME) != old
        assert not is_served(mailhost)
        said = status(mailhost)
        assert said.code == FOUND
        assert f"its renewals do not reach the servers: {why}" in said.stdout
        assert why in doctor(mailhost)
        # Not the next certbot renew: that would leave it as it is.
        assert "The next certbot renew" not in said.stdout
        do(mailhost, advised(said.stdout, "This brings it there:"))
        assert is_served(mailhost)
        return str(status(mailhost).stdout)

    def mended() -> None:
        assert "do not reach" not in status(mailhost).stdout
        assert "deploy-hook: " not in doctor(mailhost)
        old = view.live_leaf(NAME)
        mailhost.certbot("renew", "-q", "--force-renewal")
        assert view.live_leaf(NAME) != old
        assert is_served(mailhost)

    os.unlink(HOOK)
    said = lost("the deploy hook is missing")
    again = re.search(r"if it is there, and (certbot install .*?) writes it again", said)
    do(mailhost, again[1].split())
    mended()
    os.chmod(HOOK, 0o644)
    said = lost("the deploy hook is not executable")
    os.unlink(HOOK)
    do(mailhost, re.search(r"if it is there, and (certbot install .*?) writes it again", said)[1].split())
    mended()
    mailhost.append(INI, "no-directory-hooks = true\n")
    said = lost("directory hooks are switched off")
    assert f"or take --no-directory-hooks out of {INI}:" in said
    do(mailhost, re.search(r"(certbot [^;]*? --installer dovecot), which stores the installer", said)[1].split())
    mended()
    assert "installer = dovecot" in conf(NAME)
