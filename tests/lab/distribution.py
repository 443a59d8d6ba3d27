"""The configuration that the distribution's packages ship, with the few lines that any admin of a mail host has changed.

Dovecot: what ``/usr/share/dovecot`` holds and the package's ``postinst`` puts into ``/etc/dovecot``, and a log file.
Postfix: what ``/usr/share/postfix`` holds and ``postinst`` adds, a host name, a log file, and the services 465 and 587
uncommented, but for SASL, so that one server runs without the other.

Every file is dated back: postconf waits two seconds for a main.cf that has just been written.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import time

HOSTNAME = "mail.example.test"
#: Log file of each server.
LOGS = {"dovecot": "/var/log/dovecot.log", "postfix": "/var/log/mail.log"}
#: The throwaway pair, where Debian's package ssl-cert puts it.
SNAKEOIL = ("/etc/ssl/certs/ssl-cert-snakeoil.pem", "/etc/ssl/private/ssl-cert-snakeoil.key")
#: Where the protocol packages say which protocols Dovecot serves.
PROTOCOLS = "/usr/share/dovecot/protocols.d"

_POSTINST = f"""
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
myhostname = {HOSTNAME}
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mydestination = $myhostname, example.test, localhost.example.test, localhost
relayhost =
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = all
inet_protocols = all
maillog_file = {LOGS["postfix"]}
"""

_NO_SUBMISSIONS = """
service submission-login {
  inet_listener submissions {
    port = 0
  }
}
"""


def write(path: str, text: str, mode: int = 0o644) -> None:
    """Write ``text``; an existing file keeps its mode and owner; dated back."""
    there = os.path.exists(path)
    with open(path, "w") as file:
        file.write(text)
    if not there:
        os.chmod(path, mode)
    date_back(path)


def date_back(path: str) -> None:
    """Give ``path`` a modification time of a minute ago."""
    then = time.time_ns() - 60 * 10**9
    os.utime(path, ns=(then, then))


def dovecot(submission: bool) -> None:
    """Fill an empty ``/etc/dovecot`` and an empty :data:`PROTOCOLS`.

    :param submission: whether dovecot-submissiond is installed.
    """
    share, etc = "/usr/share/dovecot", "/etc/dovecot"
    shutil.copyfile(f"{share}/dovecot.conf", f"{etc}/dovecot.conf")
    os.mkdir(f"{etc}/conf.d")
    for source in glob.glob(f"{share}/conf.d/*"):
        if submission or not source.endswith("/20-submission.conf"):
            shutil.copyfile(source, source.replace(share, etc))
    if submission:
        # 2.4 would take port 465 too, which is Postfix's here.
        path = f"{etc}/conf.d/20-submission.conf"
        with open(path) as file:
            write(path, file.read() + _NO_SUBMISSIONS)
    for source in glob.glob(f"{share}/*.conf.ext"):
        target = source.replace(share, etc)
        shutil.copyfile(source, target)
        os.chmod(target, 0o640)
        shutil.chown(target, group="dovecot")
    os.mkdir(f"{etc}/private", 0o700)
    for source, name in zip(SNAKEOIL, ("dovecot.pem", "dovecot.key")):
        os.symlink(source, f"{etc}/private/{name}")
    logging = f"{etc}/conf.d/10-logging.conf"
    with open(logging) as file:
        write(logging, _once(r"(?m)^#log_path = .*$", f"log_path = {LOGS['dovecot']}", file.read()))


def protocols(machine: str, submission: bool) -> None:
    """Fill an empty :data:`PROTOCOLS` as the machine has it, or as if dovecot-submissiond were not installed."""
    for source in glob.glob(f"{machine}{PROTOCOLS}/*.protocol"):
        if submission or not source.endswith("/submissiond.protocol"):
            shutil.copy(source, PROTOCOLS)


def postfix(machine: str, submission: bool) -> None:
    """Fill an empty ``/etc/postfix``, ``/var/spool`` and ``/var/lib/postfix``.

    :param machine: the machine's root, for the package's files that are nowhere else but in ``/etc/postfix``.
    :param submission: whether 587 is switched on; 465 always is.
    """
    share, etc = "/usr/share/postfix", "/etc/postfix"
    for name in ("postfix-files", "dynamicmaps.cf", "post-install", "postfix-script", "makedefs.out"):
        if os.path.lexists(f"{machine}{etc}/{name}"):
            shutil.copy2(f"{machine}{etc}/{name}", f"{etc}/{name}", follow_symlinks=False)
    for name in ("postfix-files.d", "dynamicmaps.cf.d", "sasl"):
        if os.path.isdir(f"{machine}{etc}/{name}"):
            shutil.copytree(f"{machine}{etc}/{name}", f"{etc}/{name}")
    main = ""
    for name in ("main.cf.debian", "main.cf.tls"):
        with open(f"{share}/{name}") as file:
            main += file.read()
    set_by_postinst = "|".join(re.findall(r"(?m)^(\w+) =", _POSTINST))
    write(f"{etc}/main.cf", re.sub(rf"(?m)^(?:{set_by_postinst})\s*=.*\n", "", main) + _POSTINST)
    with open(f"{share}/master.cf.dist") as file:
        master = switch_on(file.read(), "submissions")
    write(f"{etc}/master.cf", switch_on(master, "submission") if submission else master)
    os.mkdir("/var/spool/postfix")
    shutil.chown("/var/lib/postfix", "postfix", "postfix")


def switch_on(master: str, service: str) -> str:
    """Uncomment a service of master.cf and its options, except SASL's and those with a comment between."""
    lines = master.splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if re.match(rf"#{service}\s+inet\s", line))
    lines[start] = lines[start][1:]
    for number in range(start + 1, len(lines)):
        if re.match(r"#  -o ", lines[number]):
            if "smtpd_sasl_auth_enable" not in lines[number]:
                lines[number] = lines[number][1:]
        elif not re.match(r"#   ", lines[number]):
            break
    return "".join(lines)


def _once(pattern: str, new: str, text: str) -> str:
    text, count = re.subn(pattern, new, text)
    if count != 1:
        raise RuntimeError(f"{pattern!r} is {count} times in what the distribution ships")
    return text
