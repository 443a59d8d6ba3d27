"""Random master.cf files, and what our reader and ``postconf`` make of them."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

from certbot_dovecot.servers import master_cf

_SERVICES = ("smtp", "submission", "submissions", "587", "127.0.0.1:10465", "[::1]:465", "localhost:2525")
_NAMES = ("smtpd_tls_cert_file", "smtpd_tls_key_file", "smtpd_tls_wrappermode", "syslog_name", "smtpd_tls_chain_files")
_VALUES = ("", "yes", "/a.pem", "a,b", "$myhostname", "x=y", "ü")
_END = ("\n", "\n", "\n", "\n\n", "\n# comment\n", "\n  # comment\n", "\n   \n")


def make(chance: random.Random) -> str:
    """A master.cf with some services, no two of the same name, in all forms that ``postconf`` reads as the daemons do."""
    text = chance.choice(("", "# head\n\n"))
    for name in chance.sample(_SERVICES, chance.randint(1, 5)):
        text += _service(chance, name, "inet", "smtpd")
    text += _service(chance, "pickup", "unix", "pickup")
    if chance.random() < 0.2:
        text = text.replace("\n", "\r\n")
    return text.rstrip("\r\n") if chance.random() < 0.2 else text


def _service(chance: random.Random, name: str, kind: str, command: str) -> str:
    space = chance.choice((" ", "  ", "\t", "\n  "))
    text = space.join([name, kind, "n", "-", chance.choice("yn-"), "-", "-", command])
    for _ in range(chance.randint(0, 5)):
        option, value = chance.choice(_NAMES), chance.choice(_VALUES)
        begin = chance.choice((" ", "\n  ", "\n\t", "\n# c\n  ", "\n\n  "))
        text += begin + chance.choice(
            (f"-o {option}={value}", f"-o\n   {option}={value}", f"-o {{ {option} = {value} }}", f"-o {{{option}={value}}}",
             f"-o {{ {option}\n  = {value} }}")
        )  # fmt: skip
    return text + chance.choice(_END)


def compare(text: str, place: Path) -> str:
    """What the two do not agree on; empty if they agree.

    :param place: a directory for the configuration.
    """
    (place / "main.cf").write_text("compatibility_level = 3.6\n")
    (place / "master.cf").write_bytes(text.encode())
    then = time.time() - 60
    os.utime(place / "main.cf", (then, then))
    entries = master_cf.parse(text.encode(), "master.cf")
    theirs = _ask(place, "-M")
    ours = [" ".join(entry.fields[:2]) for entry in entries]
    # Only the heads of entries: -M prints a service's options on lines of their own.
    heads = [" ".join(line.split()[:2]) for line in theirs.splitlines() if line[:1].strip()]
    if heads != ours:
        return f"postconf -M has {heads}, we have {ours}"
    wanted = dict(line.split(" = ", 1) if " = " in line else (line.rstrip(" ="), "") for line in _ask(place, "-P").splitlines())
    found = {
        f"{entry.name}/{entry.fields[1]}/{option.name}": str(entry.option(option.name))
        for entry in entries
        for option in entry.options
    }
    return "" if wanted == found else f"postconf -P has {wanted}, we have {found}"


def _ask(place: Path, flag: str) -> str:
    done = subprocess.run(["postconf", "-c", str(place), flag], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return done.stdout.decode()
