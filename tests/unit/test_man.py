"""The manual pages say all that there is, and nothing that there is not."""

from __future__ import annotations

import os
import re

import pytest

from tests.unit import pages

ONE, SEVEN = (pages.included((pages.DOCS / f"certbot-dovecot.{section}.rst").read_text()) for section in (1, 7))
SHARED = "Where the servers are"
SECTIONS = {title.lower(): text for title, text in pages.sections(ONE).items()}


def listed(text: str) -> dict[str, str]:
    """Options that a text explains, with their placeholders."""
    own = {name: value.strip("<>") for name, value in re.findall(r"(?m)^(--[a-z0-9-]+)(?: ([A-Z]+|<\S+>))?(?=  |$)", text)}
    return {**own, **listed(SECTIONS[SHARED.lower()])} if f"`{SHARED}`_" in text else own


@pytest.mark.parametrize("name", sorted(pages.commands()))
def test_every_option_of_a_command_is_in_its_section_and_no_other(name):
    wanted = {option: value or "" for option, value in pages.values(pages.commands()[name]).items()}
    assert listed(SECTIONS[name]) == wanted


def test_every_command_has_its_section_and_its_synopsis():
    names = set(pages.commands())
    assert names <= set(SECTIONS)
    assert set(re.findall(r"(?m)^\| \*\*certbot-dovecot\*\* \*\*([a-z]\S*)\*\*", ONE)) == names


def test_the_exit_codes_are_those_of_the_command():
    told = re.findall(r"(?m)^(\d+) {2,}\S", SECTIONS["exit codes"])
    assert told == ["0", "1", "2", "3", "4", str(os.EX_USAGE), "130"]


def test_every_option_of_the_plugin_is_explained():
    terms = {term: body for term, body in pages.definitions(SEVEN).items() if term.startswith("-")}
    explained = {term.split()[0]: (term.partition(" ")[2], body) for term, body in terms.items()}
    wanted = pages.plugin_options()
    assert set(explained) == set(wanted)
    for name, about in wanted.items():
        value, body = explained[name]
        assert value == ("|".join(about["choices"]) if "choices" in about else about.get("metavar", "")), name
        default = about.get("default")
        shown = re.search(r"\(default: (.+?)\)", body)
        assert shown, name
        if default:
            assert shown[1].strip("`") == (f"{default:g}" if isinstance(default, float) else default), name


def test_the_reference_is_the_same_list():
    assert "include:: options-list.rst" in (pages.DOCS / "options.rst").read_text()
