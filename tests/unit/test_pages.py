"""What the documentation mentions exists, and what exists is mentioned; that its commands run is tested on the lab."""

from __future__ import annotations

import io
import re

import pytest

from tests.lab import story
from tests.unit import pages

IDS = [path.name for path in pages.PAGES]
#: ``certbot-dovecot`` in running text, in a literal or in bold, up to its end.
INLINE = re.compile(r"``certbot-dovecot +([^`]+)``|\*\*certbot-dovecot +([^*]+)\*\*")


def prose(text: str) -> str:
    """A page without its literal blocks; what wraps is one line."""
    lines = text.splitlines()
    for block in story.blocks(text):
        for number in range(block.line - 1, block.line - 1 + len(block.lines)):
            lines[number] = ""
    return re.sub(r"(?<=\S)\n *(?=\S)", " ", "\n".join(lines))


def wrong(words: str) -> str:
    """What in the words after ``certbot-dovecot`` the parser does not know; empty if all is known."""
    known = pages.commands()
    name, *rest = words.partition(" -- ")[0].split()
    if name in ("COMMAND", "--help", "--version"):
        return ""
    if name not in known:
        return name
    options = pages.options(known[name]) | {"--help"}
    return " ".join(word for word in rest if word.startswith("--") and word.partition("=")[0] not in options)


@pytest.mark.parametrize("page", pages.PAGES, ids=IDS)
def test_every_command_that_is_mentioned_exists(page):
    for match in INLINE.finditer(prose(page.read_text())):
        assert not wrong(match[1] or match[2]), match[0]


@pytest.mark.parametrize("page", pages.PAGES, ids=IDS)
def test_every_option_of_the_plugin_that_is_mentioned_exists(page):
    mentioned = set(re.findall(r"(?<![\w-])--dovecot-[a-z0-9-]+", page.read_text()))
    assert mentioned <= set(pages.plugin_options())


@pytest.mark.parametrize("page", pages.PAGES, ids=IDS)
def test_no_command_is_where_nobody_runs_it(page):
    story.steps(page.read_text())
    assert story.strays(page.read_text()) == []


@pytest.mark.parametrize("page", pages.PAGES, ids=IDS)
def test_every_page_with_commands_begins_fresh(page):
    typed = [step for step in story.steps(page.read_text()) if not isinstance(step, story.Elsewhere)]
    assert not typed or typed[0].kind == "fresh"


@pytest.mark.parametrize("words", ["nonsense", "plan --nonsense", "tlsa NAME --now", "rollover NAME --reasons TEXT"])
def test_what_does_not_exist_is_seen(words):
    assert wrong(words)


def test_the_map_has_every_room():
    text = (pages.DOCS / "contributing.rst").read_text()
    told = set(re.findall(r"``([a-z_.]+)``", "\n".join(re.findall(r"(?m)^``[a-z].*?(?=  )", text))))
    root = pages.ROOT / "certbot_dovecot"
    paths = [path.relative_to(root).with_suffix("") for path in root.rglob("*.py")]
    rooms = {".".join(path.parts).removesuffix(".__init__") for path in paths} - {"__init__"}
    assert rooms <= told, f"not in the map: {sorted(rooms - told)}"
    assert {name for name in told if "/" not in name} - rooms == {"benchmarks"}


def test_the_readme_renders_as_on_a_package_index():
    core = pytest.importorskip("docutils.core")
    html5 = pytest.importorskip("docutils.writers.html5_polyglot")
    told = io.StringIO()
    settings = {"halt_level": 2, "warning_stream": told, "raw_enabled": False, "file_insertion_enabled": False}
    text = (pages.ROOT / "README.rst").read_text()
    html = core.publish_parts(text, writer=html5.Writer(), settings_overrides=settings)["body"]
    assert "certbot-nginx" in html
    assert told.getvalue() == ""


def test_every_subcommand_is_told_of_in_the_pages():
    text = "\n".join(path.read_text() for path in pages.PAGES if not path.name.startswith("certbot-dovecot."))
    assert {name for name in pages.commands() if f"certbot-dovecot {name}" not in text} == set()
