"""Names that come from outside: host names, addresses, lineage names; and text that is safe to show.  Pure.

A certificate is written by somebody else.  Its subjectAltName may hold any text, and Dovecot's configuration, a Postfix table
and a zone file give a meaning to line breaks, quotes, braces and blanks.  So a name is checked once, where it comes in (R12):

* :func:`normal` gives a host name or an address as it is written everywhere, or None for what is neither;
* :func:`checked` does the same for an option, and raises;
* :func:`check_lineage` and :func:`check_text` do it for a lineage's name and for the text of an option.

The writers check again, with :func:`is_word`.  What is only looked at (a foreign certificate, an answer of a server) is never
refused: it is shown with :func:`shown`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from certbot_dovecot.problems import Problem

#: An LDH label (RFC 5890 section 2.3.1); an A-label is one, too.  No underscore.
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
#: Characters of a name without dots at the end (RFC 1035 section 2.3.4).
LONGEST = 253
#: All characters of host names, patterns, addresses and owner names.
_WORD = re.compile(r"[A-Za-z0-9._*:-]+")
#: C0, DEL, C1; line separators; what turns the direction of a line (Unicode Standard Annex #9); lone surrogates, which stand
#: for bytes that are no UTF-8.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_HIDDEN = re.compile(f"[{_UNSAFE}]")
_HIDDEN_IN_LINES = re.compile(f"(?![\n\t])[{_UNSAFE}]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
#: Characters that a message shows of a name that it refuses.
_SHOWN = 120


def is_label(text: str) -> bool:
    """Whether ``text`` is one label of a host name: 1 to 63 letters, digits and hyphens, no hyphen at an end."""
    return _LABEL.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether ``text`` is an IPv4 or IPv6 address, without a scope (``%eth0``), which may hold any text."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_host_name(text: str, wildcard: bool = True) -> bool:
    """Whether ``text`` is a host name (RFC 1123 section 2.1, RFC 5890 section 2.3.1), without a dot at its end.

    :param wildcard: whether the first label may be ``*`` (RFC 6125 section 6.4.3).
    """
    labels = text.split(".")
    if wildcard and labels[0] == "*":
        labels = labels[1:]
    # A last label of digits makes an address of it, or of something that looks like one.
    return len(text) <= LONGEST and bool(labels) and all(map(is_label, labels)) and not labels[-1].isdigit()


def is_word(text: str) -> bool:
    """Whether ``text`` is only what a name may be in a configuration, a table or a zone file: nothing in it is syntax there."""
    return _WORD.fullmatch(text) is not None


def is_lineage(text: str) -> bool:
    """Whether ``text`` can be a lineage's name: one file name, not hidden, no option, that shows as what it is."""
    return bool(text) and text[0] not in ".-" and "/" not in text and shown(text) == text


def normal(name: str) -> str:
    """``name`` without a dot at its end, if it is a host name or an address; else an empty text."""
    name = name[:-1] if name.endswith(".") else name
    return name if is_host_name(name) or is_address(name) else ""


def checked(given: Iterable[str], where: str) -> list[str]:
    """The names of an option, without a dot at their end.

    :param where: the option.
    :raises Problem: one is neither a host name nor an address.
    """
    found = []
    for name in given:
        if not normal(name):
            raise Problem(
                f"{brief(name)} is neither a host name nor an IP address",
                where=where,
                left="Nothing was changed",
                todo="Give host names, as mail.example.org",
            )
        found.append(normal(name))
    return found


def check_lineage(name: str) -> str:
    """A lineage's name, as it came.

    :raises Problem: it could be a path, or hides what it is.
    """
    if not is_lineage(name):
        raise Problem(
            "this is not a name for a lineage",
            where=shown(name[:_SHOWN]) or "''",
            left="Nothing was changed",
            todo="Give a name without slashes and control characters, and without a dot or a hyphen in front, as "
            "mail.example.org",
        )
    return name


def check_text(text: str, option: str) -> str:
    """The text of an option, as it came.

    :param option: its name, for the message.
    :raises Problem: it has a line break or another control character in it.
    """
    if shown(text) != text:
        raise Problem(
            f"a line break or another control character is in it: {brief(text)}",
            where=option,
            left="Nothing was changed",
            todo="Give it without",
        )
    return text


def shown(text: str) -> str:
    r"""``text`` on one line, for a message or a terminal: a control character is shown as ``\x1b``, a line break as ``\n``."""
    return _HIDDEN.sub(_escaped, text)


def shown_lines(text: str) -> str:
    """The same, but line breaks and tabs stay: for text of several lines that we composed."""
    return _HIDDEN_IN_LINES.sub(_escaped, text)


def brief(text: str) -> str:
    """``text`` in quotes, on one line, and not longer than a message can show."""
    text = shown(text[: _SHOWN + 1])
    return f"'{text[:_SHOWN]}...'" if len(text) > _SHOWN else f"'{text}'"


def _escaped(match: re.Match[str]) -> str:
    char = match.group()
    return _SHORT.get(char) or (f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}")
