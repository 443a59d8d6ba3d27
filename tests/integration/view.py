"""How tests look at a mail host: what is served, what a file holds, what changed."""

from __future__ import annotations

import difflib
import subprocess
from typing import Any

from certbot_dovecot import bundle as bundles
from tests.lab.mailhost import PORTS


def leaf_at(host: Any, port: int, address: str = "127.0.0.1") -> str:
    """SHA-256 of the leaf that ``port`` serves now; empty if it serves none."""
    return str(host.served(port, address).digest)


def leaves(host: Any, address: str = "127.0.0.1") -> dict[int, str]:
    """The same for every port but 25."""
    return {port: leaf_at(host, port, address) for port, _, _ in PORTS if port != 25}


def leaf_in(path: str) -> str:
    """SHA-256 of the first certificate in a file."""
    return bundles.digest_of(bundles.leaf_of(read(path), path))


def live_leaf(name: str) -> str:
    """SHA-256 of a lineage's leaf."""
    return leaf_in(f"/etc/letsencrypt/live/{name}/cert.pem")


def spki(path: str) -> str:
    """SHA-256 of the SubjectPublicKeyInfo of the first certificate in a file."""
    return bundles.spki_of(bundles.leaf_of(read(path), path))


def key_kind(path: str) -> tuple[str, str]:
    """Algorithm and parameter of a private key, with its certificate beside it."""
    cert = path.replace(".key", ".pem")
    return bundles.kind_of(bundles.leaf_of(read(cert), cert))


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Paths that differ between two snapshots."""
    return {path for path in {**before, **after} if before.get(path) != after.get(path)}


def diff(before: dict[str, Any], after: dict[str, Any], path: str) -> list[str]:
    """Lines removed and added."""
    lines = difflib.unified_diff(
        before[path].data.decode().splitlines(), after[path].data.decode().splitlines(), lineterm="", n=0
    )
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def dovecot_version() -> tuple[int, ...]:
    """Of the Dovecot of this host, like ``(2, 3, 19, 1)``."""
    out = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in out.split()[0].split("-")[0].split("."))


def setting(which: str) -> str:
    """The name of Dovecot's ``cert`` or ``key`` setting here, and what stands between it and a path: ``ssl_cert = <``."""
    return f"ssl_{which} = <" if dovecot_version() < (2, 4) else f"ssl_server_{which}_file = "


def tls(cert: str, key: str, indent: str = "") -> str:
    """The two lines that make Dovecot serve a pair."""
    return f"{indent}{setting('cert')}{cert}\n{indent}{setting('key')}{key}\n"


def tls_ports() -> list[int]:
    """The ports but 25 with TLS on a host as just installed; Debian 13 has ManageSieve's old port too."""
    ports = {port for port, _, _ in PORTS if port != 25}
    return sorted(ports | {2000} if dovecot_version() >= (2, 4) else ports)
