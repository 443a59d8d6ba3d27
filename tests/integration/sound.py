"""A host on which a certificate is installed and all is in order; ways to put something wrong on it, and back again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.request

from tests.integration import view
from tests.integration.test_install import NAME

CONF = f"/etc/letsencrypt/renewal/{NAME}.conf"
LIVE = f"/etc/letsencrypt/live/{NAME}"
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/certbot-dovecot"
MAIN, MASTER, LOCAL = "/etc/postfix/main.cf", "/etc/postfix/master.cf", "/etc/dovecot/local.conf"
CRON = "/etc/cron.d/certbot"
#: Everything that a command of ours or of certbot's might write to.
WATCHED = ("/etc/dovecot", "/etc/letsencrypt", "/etc/postfix", "/etc/cron.d", "/var/lib/letsencrypt", "/var/log/letsencrypt")


def doctor(host, *args, at=None, env=()):
    return host.run("env", "SSL_CERT_FILE=/run/lab/trusted.pem", *env, "certbot-dovecot", "doctor", *args, at=at, check=False)


def findings(host, *args, at=None, env=()):
    result = doctor(host, "--json", *args, at=at, env=env)
    assert result.code in (0, 4), result
    found = json.loads(result.stdout)
    assert result.code == (4 if found else 0)
    assert "Traceback" not in result.stderr
    return found


def checks(host, *args, **how):
    return sorted(f"{one['severity']} {one['check']}" for one in findings(host, *args, **how))


def only(host, *args, **how):
    """The one finding that there is."""
    (one,) = findings(host, *args, **how)
    assert one["todo"]
    return one


@contextlib.contextmanager
def restored(*paths):
    """Files as they were, with owner and mode; what was not there is not there again."""
    was = {path: (view.read(path), os.stat(path)) if os.path.exists(path) else None for path in paths}
    try:
        yield
    finally:
        for path, before in was.items():
            if before is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                continue
            with open(path, "wb") as file:
                file.write(before[0])
            os.chmod(path, before[1].st_mode & 0o7777)
            os.utime(path, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))


@contextlib.contextmanager
def put(host, path, text):
    """Text at the end of a file."""
    with restored(path):
        host.append(path, text)
        yield


@contextlib.contextmanager
def instead(host, path, old, new):
    """Another text in a file."""
    with restored(path):
        text = view.read(path).decode()
        assert old in text
        host.write(path, text.replace(old, new))
        yield


def remedy(host, finding):
    """Do what the finding says, up to the first comma or semicolon."""
    program, *words = re.split("[,;(]", finding["todo"])[0].split()
    return host.certbot(*words) if program == "certbot" else host.run(program, *words)


def trust():
    """Have the system trust the CA that issues on this lab, as it trusts a public one."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen("https://127.0.0.1:15000/roots/0", context=context) as answer:
        data = answer.read()
    with open("/run/lab/trusted.pem", "wb") as file:
        file.write(data)


@contextlib.contextmanager
def cron_daemon():
    """A process that is called as cron's daemon is; the lab has none."""
    shutil.copy("/bin/sleep", "/run/lab/cron")
    daemon = subprocess.Popen(["/run/lab/cron", "3600"])
    try:
        yield
    finally:
        daemon.kill()
        daemon.wait()
