"""The completions know every subcommand and option of the parser, and no other; asked of a real bash and a real zsh."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest

from tests.unit import pages

BASH, ZSH = pages.ROOT / "completions" / "certbot-dovecot.bash", pages.ROOT / "completions" / "_certbot-dovecot"
NAMES = sorted(pages.commands())
VALUES = [
    (name, option, value) for name in NAMES for option, value in sorted(pages.values(pages.commands()[name]).items()) if value
]

needs_bash = pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
needs_zsh = pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")


def complete(*words: str, cwd=None) -> set[str]:
    """What bash offers in the place of the last word."""
    array = " ".join(map(shlex.quote, ("certbot-dovecot", *words)))
    script = (
        f"source {shlex.quote(str(BASH))}\nCOMP_WORDS=({array})\nCOMP_CWORD={len(words)}\n_certbot_dovecot\n"
        '[[ ${#COMPREPLY[@]} == 0 ]] || printf "%s\\n" "${COMPREPLY[@]}"\ncomplete -p certbot-dovecot >&2'
    )
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", script], capture_output=True, text=True, check=True, cwd=cwd, timeout=20
    )
    assert done.stderr == "complete -F _certbot_dovecot certbot-dovecot\n"
    return set(done.stdout.splitlines())


def specs(*words: str) -> tuple[str, ...]:
    """What zsh's ``_arguments`` or ``_describe`` is told to offer for these words, the last of which is being typed."""
    script = (
        "_arguments() { print -rl -- \"$@\" }\n_describe() { print -rl -- ${(P)2} }\nwords=(certbot-dovecot "
        + " ".join(map(shlex.quote, words))
        + f")\nCURRENT={len(words) + 1}\nsource {shlex.quote(str(ZSH))}"
    )
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, check=True, timeout=20)
    assert done.stderr == ""
    return tuple(done.stdout.splitlines())


def options_of(told: tuple[str, ...]) -> set[str]:
    return {match[0] for spec in told if (match := re.match(r"--[a-z-]+", spec))}


@pytest.fixture
def config_dir(tmp_path):
    """A configuration directory with two lineages and a certificate from elsewhere."""
    (tmp_path / "renewal").mkdir()
    for name in ("a.example.org", "b.example.org"):
        (tmp_path / "renewal" / f"{name}.conf").touch()
    for name in ("a.example.org", "c.example.org-external"):
        (tmp_path / "dovecot" / name).mkdir(parents=True)
        (tmp_path / "dovecot" / name / "state.json").touch()
    (tmp_path / "dovecot" / "no-lineage").mkdir()
    return tmp_path


@needs_bash
def test_bash_knows_every_subcommand():
    assert complete("") == set(NAMES)
    assert complete("roll") == {"rollover"}
    assert complete("--") == {"--help", "--version"}


@needs_bash
@pytest.mark.parametrize("name", NAMES)
def test_bash_knows_every_option(name):
    assert complete(name, "--") == pages.options(pages.commands()[name]) | {"--help"}


@needs_bash
@pytest.mark.parametrize(("name", "option", "value"), VALUES)
def test_bash_knows_what_comes_after_an_option(name, option, value, tmp_path):
    (tmp_path / "some.pem").touch()
    (tmp_path / "some.d").mkdir()
    wanted = {"FILE": {"some.pem", "some.d"}, "DIR": {"some.d"}}.get(value, set())
    assert complete(name, option, "some", cwd=tmp_path) == wanted
    assert complete(name, option, "=", "some", cwd=tmp_path) == wanted
    assert not complete(name, option, "--", cwd=tmp_path)


@needs_bash
@pytest.mark.parametrize("option", [["--config-dir"], ["--config-dir", "="]])
def test_bash_knows_the_lineages(config_dir, option):
    every = {"a.example.org", "b.example.org", "c.example.org-external"}
    for name in ("tlsa", "deploy", "standby", "rollover"):
        assert complete(name, *option, str(config_dir), "") == every
    assert complete("rollover", *option, str(config_dir), "b") == {"b.example.org"}
    assert complete("plan", *option, str(config_dir), "--lineage", "c") == {"c.example.org-external"}
    assert complete("tlsa", *option, "/nonexistent", "") == set()


@needs_bash
def test_bash_leaves_what_is_certbots_to_certbot():
    assert complete("standby", "NAME", "--", "--") == set()


@needs_zsh
def test_zsh_knows_every_subcommand():
    assert {spec.partition(":")[0] for spec in specs("")} == set(NAMES)
    assert options_of(specs("--")) == {"--help", "--version"}


@needs_zsh
@pytest.mark.parametrize("name", NAMES)
def test_zsh_knows_every_option_and_its_value(name):
    told = specs(name, "--")
    assert options_of(told) == pages.options(pages.commands()[name]) | {"--help"}
    for option, value in pages.values(pages.commands()[name]).items():
        [spec] = [spec for spec in told if spec.startswith(f"{option}[")]
        action = {"FILE": ":_files", "DIR": ":_files -/"}.get(value or "", "")
        assert spec.endswith(action), spec
        assert (":" in spec.partition("]")[2]) == bool(value), spec


@needs_zsh
@pytest.mark.parametrize("option", [["--config-dir", "{}"], ["--config-dir={}"]])
def test_zsh_knows_the_lineages(config_dir, option):
    words = ["tlsa", *(word.format(config_dir) for word in option), ""]
    script = (
        "_arguments() { }\ncompadd() { print -rl -- ${(P)2} }\nwords=(certbot-dovecot "
        + " ".join(map(shlex.quote, words))
        + f")\nCURRENT={len(words) + 1}\nsource {shlex.quote(str(ZSH))}\n_certbot-dovecot_lineages"
    )
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, check=True, timeout=20)
    # What _arguments hands on has the command and the subcommand as one word.
    assert set(done.stdout.split()) == {"a.example.org", "b.example.org", "c.example.org-external"}
