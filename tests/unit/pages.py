"""The documentation as text, and what it must agree with: the command line's parser and the plugin's options.  For tests."""

from __future__ import annotations

import argparse
import pathlib
import re
from typing import Any, Optional

from certbot_dovecot import cli
from certbot_dovecot.installer import Installer

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.rst", *sorted(DOCS.glob("*.rst"))]


def commands() -> dict[str, argparse.ArgumentParser]:
    """The subcommands."""
    [choices] = [action.choices for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(choices)


def options(command: argparse.ArgumentParser) -> set[str]:
    """Long options of a subcommand, but for ``--help``."""
    return {name for action in command._actions for name in action.option_strings if name.startswith("--")} - {"--help"}


def values(command: argparse.ArgumentParser) -> dict[str, Optional[str]]:
    """Long options to the placeholder of their value (the option's last word, if the parser has none); None for a flag."""
    return {
        name: None if action.nargs == 0 else str(action.metavar or name.rpartition("-")[2].upper())
        for action in command._actions
        for name in action.option_strings
        if name in options(command)
    }


def plugin_options() -> dict[str, dict[str, Any]]:
    """The plugin's own options, by name with the prefix."""
    found: dict[str, dict[str, Any]] = {}
    Installer.add_parser_arguments(lambda name, **about: found.update({f"--dovecot-{name}": about}))
    return found


def definitions(text: str) -> dict[str, str]:
    """The definition lists of a page whose terms are literal: term to explanation."""
    return {term: " ".join(body.split()) for term, body in re.findall(r"(?m)^``(.+)``\n((?: {4}.+\n| *\n(?= {4}))+)", text)}


def sections(text: str) -> dict[str, str]:
    """Title to text; a section has what is between its title and the next one, of whatever level."""
    parts = re.split(r"(?m)^(.+)\n[=~-]{3,}\n", text)
    return dict(zip(parts[1::2], parts[2::2]))


def included(text: str) -> str:
    """A page with what it includes."""
    return re.sub(r"(?m)^\.\. include:: (\S+)$", lambda match: (DOCS / match[1]).read_text(), text)
