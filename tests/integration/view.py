"""How tests look at a mail host: what is served, what a file holds, what changed."""

from __future__ import annotations

import difflib
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
