"""The command ``certbot-dovecot``: one room for each subcommand, which declares its options and calls a deed.

Exit codes, kept promises: 0 done, or nothing to do; 1 a problem, told on stderr, with nothing changed unless it says so; 2
``plan`` shows changes, or ``install-cert --dry-run``; 3 ``rollover`` or ``install-cert`` changed nothing, for it is
not proven to be safe yet; 4 ``status`` or ``doctor`` found what needs an admin; 64 wrong usage (``EX_USAGE`` of sysexits.h).
``status --nagios`` has those of monitoring plugins.

``tlsa`` and ``deploy`` are made for certbot's deploy hooks: without a lineage on the command line they take the one of
``RENEWED_LINEAGE``.  A deploy hook runs *before* the installer: at that moment the renewed key is next, not served.

Nothing heavy is imported before a subcommand runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn, Optional

import certbot_dovecot
from certbot_dovecot.certificates import names
from certbot_dovecot.cli import csr, deploy, doctor, install_cert, plan, rollover, screen, standby, status, tlsa, undo
from certbot_dovecot.problems import Problem

#: What is checked elsewhere: names by what they are for, and what is certbot's.
_OTHERS = ("names", "more")
#: In the order of ``--help``.
ROOMS = (status, doctor, plan, undo, tlsa, standby, rollover, csr, install_cert, deploy)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    with screen.guarded():
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(words: list[str]) -> int:
    # What follows a double dash is certbot's, whatever it looks like.
    cut = words.index("--") if "standby" in words[:1] and "--" in words else len(words)
    args = parser().parse_args(words[:cut])
    args.more = words[cut + 1 :]
    try:
        _check(args)
        code: int = args.run(args)
        return code
    except Problem as problem:
        print(f"certbot-dovecot: {problem}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough; nothing may be flushed to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        # As a shell has it for a program that SIGINT ended.
        print("certbot-dovecot: interrupted", file=sys.stderr)
        return 130
    except Exception:
        # A fault of ours, as Python shows it, but escaped: it quotes what it met.
        traceback.print_exc()
        return 1


def _check(args: argparse.Namespace) -> None:
    """What was said is text of one line, and what names a lineage is a name (rule R12).

    :raises Problem: it is not.
    """
    for option, value in vars(args).items():
        given = value if isinstance(value, list) else [value]
        for text in given if option not in _OTHERS else ():
            if isinstance(text, str):
                if option == "name" or (option == "lineage" and (text or isinstance(value, list))):
                    names.check_lineage(text)
                names.check_text(text, f"--{option.replace('_', '-')}")


def parser() -> argparse.ArgumentParser:
    """The command line, with every subcommand."""
    made = _Parser(
        prog="certbot-dovecot",
        description="The companion of certbot's dovecot installer.",
        epilog="Exit codes: 0 done, 1 a problem (told on stderr), 2 plan shows changes, 3 another key is not safe yet, 4 "
        "status or doctor found something, 64 wrong usage.",
    )
    made.add_argument("--version", action="version", version=f"certbot-dovecot {certbot_dovecot.__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for room in ROOMS:
        room.add(commands)
    return made


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: error: {message}\n")
