"""Which bytes of a Dovecot configuration change, so that a lineage is served.  Pure.

The first lineage is the default certificate: the global settings, where they are written, else where the layout mentions them,
else at the end of the main file.  Settings of other scopes (``protocol``, ``local``, ``local_name``) that would override them
for the lineage's names are switched too; where such a scope serves a certificate of other names, it is left alone.

A further lineage, of other names, gets ``local_name`` scopes in one file of our own (:data:`SNI_FILE`), and an include of that
file which is added once: at the end of the main file, or in 2.3, where the first match wins, before a scope that would match.

Certificate and key change in one rename: where they stand in different files, both go into the later one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Optional

from certbot_dovecot.files import Edit
from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers import dovecot_edit as edit
from certbot_dovecot.servers.contract import Claim
from certbot_dovecot.servers.dovecot_conf import Assignment, Block, Mention, Scope, Tree
from certbot_dovecot.servers.dovecot_edit import Change
from certbot_dovecot.servers.dovecot_view import name_matches

#: The file of our own, in the server root.
SNI_FILE = "certbot-dovecot-sni.conf"
_HEAD = b"# Written by certbot-dovecot: the certificates of further lineages, by name.  Edits are lost at the next install.\n"


@dataclass
class Draft:
    """Changes on their way to edits.

    :param changes: path to its changes.
    :param notes: what the admin should know, full sentences.
    """

    tree: Tree
    changes: dict[str, list[Change]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, path: str, change: Change) -> None:
        """Remember a change."""
        self.changes.setdefault(path, []).append(change)

    def edits(self) -> list[Edit]:
        """The edits; files whose bytes do not change are left out."""
        files = self.tree.files
        made = [Edit(path, files[path], edit.change(files[path], changes)) for path, changes in self.changes.items()]
        return [one for one in made if one.old != one.new]


def plan(tree: Tree, main: str, claim: Claim, sni_file: Optional[bytes]) -> tuple[list[Edit], list[str]]:
    """The edits after which the lineage of ``claim`` is served, and what the admin should know of them.

    :param main: the main file; :data:`SNI_FILE` lies beside it.
    :param sni_file: what is in :data:`SNI_FILE`; None if it is not there.
    :raises ConfProblem: TLS is off, or something stands in the way that must be mended first.
    """
    draft = Draft(tree)
    if not claim.explicit:
        for scope in _ours(tree, claim):
            _switch(draft, scope, claim)
        return draft.edits(), draft.notes
    off = tree.effective("ssl")
    if off is not None and off.value == "no":
        raise ConfProblem(
            "TLS is switched off here (ssl = no)", where=off.where, left="Nothing was changed", todo="Set ssl = yes"
        )
    default = _is_default(tree, claim)
    if default:
        _take_default(draft, main, claim)
    left = _by_name(draft, claim, default)
    edits: list[Edit] = []
    if left or _has_blocks(tree, main, claim):
        edits = _sni(draft, main, claim, left, sni_file)
    # What is not included yet is written first: the last edit makes it effective.
    return edits + draft.edits(), draft.notes


def _settings(tree: Tree) -> tuple[str, str]:
    return tree.dialect.cert, tree.dialect.key


def _ours(tree: Tree, claim: Claim) -> list[Scope]:
    """The scopes that name a file of the lineage."""
    return [
        scope
        for scope in tree.scopes(_settings(tree))
        if any(a.is_file and claim.owns(a.value) for a in _pair(tree, scope) if a is not None)
    ]


def _pair(tree: Tree, scope: Scope) -> tuple[Optional[Assignment], Optional[Assignment]]:
    return tree.effective(tree.dialect.cert, scope), tree.effective(tree.dialect.key, scope)


def _is_default(tree: Tree, claim: Claim) -> bool:
    """Whether the lineage is, or becomes, the default certificate.

    It is not if another lineage of ours is, for a name that this one has not.
    """
    cert = tree.effective(tree.dialect.cert)
    if cert is None or not cert.is_file or claim.owns(cert.value) or not claim.another(cert.value):
        return True
    names = claim.covers(cert.value)
    return names is not None and bool(names) and names <= {name.lower() for name in claim.names}


def _take_default(draft: Draft, main: str, claim: Claim) -> None:
    tree = draft.tree
    cert, key = _pair(tree, ())
    before = cert.value if cert else ""
    if cert and cert.is_file and claim.another(cert.value):
        draft.notes.append(f"Dovecot: {cert.where} named {before}, a certificate of another lineage; it names this one now.")
    if cert is None and key is None:
        _add(draft, main, claim)
    else:
        _switch(draft, (), claim)
    for scope in tree.scopes(_settings(tree)):
        if not scope or any(kind == "local_name" for kind, _ in scope):
            continue
        if _covered(tree, scope, claim, before):
            _switch(draft, scope, claim)
        else:
            found = next(a for a in _pair(tree, scope) if a is not None)
            draft.notes.append(f"Dovecot: {found.where} keeps its certificate of other names.")


def _covered(tree: Tree, scope: Scope, claim: Claim, before: str) -> bool:
    """Whether a scope without a name serves what this lineage is for."""
    cert = tree.effective(tree.dialect.cert, scope)
    if cert is None or not cert.is_file or cert.value == before or claim.owns(cert.value):
        return True
    names = claim.covers(cert.value)
    return names is None or any(name_matches(a, b) or name_matches(b, a) for a in names for b in claim.names)


def _by_name(draft: Draft, claim: Claim, default: bool) -> list[str]:
    """Switch the scopes that are for names of the lineage alone; the names that still need a scope of their own."""
    tree = draft.tree
    wanted = {name.lower() for name in claim.names}
    left = [] if default else list(dict.fromkeys(name.lower() for name in claim.names))
    for scope in tree.scopes(_settings(tree)):
        patterns = [pattern.lower() for kind, argument in scope if kind == "local_name" for pattern in argument.split()]
        if not patterns:
            if scope and not default:
                _refuse_conflict(tree, scope, claim)
            continue
        if _is_sni_file(tree, scope):
            continue
        if set(patterns) <= wanted:
            _switch(draft, scope, claim)
            if len(scope) == 1:
                left = [name for name in left if name not in patterns]
        elif default:
            # Part of this block's names are ours, or its wildcard covers one: that name needs a block of its own.
            wild = [pattern for pattern in patterns if "*" in pattern]
            shared = wanted.intersection(patterns) | {n for n in wanted if any(name_matches(p, n) for p in wild)}
            left += sorted(shared.difference(left))
    return left


def _refuse_conflict(tree: Tree, scope: Scope, claim: Claim) -> None:
    """2.3 drops a connection when a name's scope and another one, neither within the other, both set the certificate."""
    if not tree.dialect.first_wins:
        return
    found = next(a for a in _pair(tree, scope) if a is not None)
    raise ConfProblem(
        f"{' '.join(scope[0])} sets {found.key} here, which Dovecot 2.3 cannot combine with a certificate by name "
        f"({claim.names[0]}): it would drop these connections",
        where=found.where,
        left="Nothing was changed",
        todo=f"Remove {found.key} from this block, or put it into the global scope",
    )


def _switch(draft: Draft, scope: Scope, claim: Claim) -> None:
    """Make one scope name the pair, by one change of one file."""
    tree, pair = draft.tree, claim.pair
    cert, key = _pair(tree, scope)
    wanted = {tree.dialect.cert: pair.cert, tree.dialect.key: pair.key}
    if cert and key and _is(cert, pair.cert) and _is(key, pair.key):
        return
    # What comes from a group stays there: the group may serve other scopes, and what is explicit is stronger.
    own = [a for a in (cert, key) if a is not None and a.scope == scope]
    if not own:
        use = tree.taken(scope)[-1]
        lines = [edit.assign(tree.dialect, setting, path) for setting, path in wanted.items()]
        draft.add(use.path, edit.insert(tree, use.path, use.end, lines))
    elif len(own) == 2 and own[0].path == own[1].path:
        for assignment, path in zip(own, (pair.cert, pair.key)):
            if not _is(assignment, path):
                draft.add(assignment.path, edit.set_value(tree, assignment, path))
    else:
        last = max(own, key=lambda one: one.order)
        draft.add(last.path, edit.set_lines(tree, last, wanted))


def _is(assignment: Assignment, path: str) -> bool:
    return assignment.is_file and assignment.value == path


def _add(draft: Draft, main: str, claim: Claim) -> None:
    """Settings that are nowhere: where the layout mentions them, else at the end of the main file."""
    tree = draft.tree
    wanted = {tree.dialect.cert: claim.pair.cert, tree.dialect.key: claim.pair.key}
    mentions: dict[str, Mention] = {}
    for mention in tree.mentions:
        mentions.setdefault(mention.key, mention)
    both = [mentions[setting] for setting in wanted if setting in mentions]
    if len(both) == 2 and both[0].path == both[1].path:
        for mention, (setting, path) in zip(both, wanted.items()):
            line = edit.assign(tree.dialect, setting, path)
            draft.add(mention.path, edit.insert(tree, mention.path, mention.end, [line]))
        return
    lines = [edit.assign(tree.dialect, setting, path) for setting, path in wanted.items()]
    draft.add(main, edit.insert(tree, main, len(tree.files[main]), lines))


def _is_sni_file(tree: Tree, scope: Scope) -> bool:
    """Whether a scope stands in the file of our own, and nowhere else."""
    return all(os.path.basename(a.path) == SNI_FILE for a in _pair(tree, scope) if a is not None)


def _sni(draft: Draft, main: str, claim: Claim, names: Sequence[str], there: Optional[bytes]) -> list[Edit]:
    """The edits of the file of our own; its include goes into the draft."""
    tree = draft.tree
    path = os.path.join(os.path.dirname(main), SNI_FILE)
    lines: list[bytes] = []
    for (cert, key), group in _groups(draft, path, claim, names).items():
        lines += _block(tree, group, cert, key)
    data = _HEAD + b"".join(line + b"\n" for line in lines)
    if path not in tree.files:
        _include(draft, main, names)
    return [] if data == there else [Edit(path, there, data)]


def _groups(draft: Draft, path: str, claim: Claim, names: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """The names in the file of our own, by pair, in their order; what this lineage takes from another is noted."""
    tree = draft.tree
    groups: dict[tuple[str, str], list[str]] = {}
    ours = (claim.pair.cert, claim.pair.key)
    for scope in tree.scopes(_settings(tree)):
        cert, key = _pair(tree, scope)
        if cert is None or key is None or cert.path != path:
            continue
        if claim.owns(cert.value):
            groups.setdefault(ours, [])
            continue
        for name in scope[0][1].split():
            if name in names:
                draft.notes.append(f"Dovecot: {name} was served with {cert.value}; it is served with this lineage now.")
            else:
                groups.setdefault((cert.value, key.value), []).append(name)
    groups[ours] = list(names)
    return groups


def _block(tree: Tree, names: Sequence[str], cert: str, key: str) -> list[bytes]:
    """Blocks that serve a pair for ``names``; an alternative pair of the global scope does not count in them."""
    if not names:
        return []
    dialect = tree.dialect
    inner = [edit.assign(dialect, dialect.cert, cert), edit.assign(dialect, dialect.key, key)]
    if tree.effective(dialect.alt_cert) is not None:
        inner += [edit.assign(dialect, dialect.alt_cert, ""), edit.assign(dialect, dialect.alt_key, "")]
    arguments = [" ".join(names)] if dialect.names else names
    lines: list[bytes] = []
    for argument in arguments:
        lines += [edit.open_block(argument), *(b"  " + line for line in inner), b"}"]
    return lines


def _include(draft: Draft, main: str, names: Iterable[str]) -> None:
    tree = draft.tree
    path, at = main, len(tree.files[main])
    if tree.dialect.first_wins:
        block = _first_match(tree, names)
        if block is not None:
            path, at = block.path, block.start
    root = os.path.dirname(main)
    text = SNI_FILE if os.path.dirname(path) == root else os.path.join(root, SNI_FILE)
    draft.add(path, edit.insert(tree, path, at, [os.fsencode(f"!include_try {edit.checked(text)}")]))


def _first_match(tree: Tree, names: Iterable[str]) -> Optional[Block]:
    """The first block of the global scope that matches one of ``names``."""
    wanted = list(names)
    for block in tree.blocks:
        patterns = block.scope[0][1].split() if len(block.scope) == 1 and block.scope[0][0] == "local_name" else []
        if any(name_matches(pattern, name) for pattern in patterns for name in wanted):
            return block
    return None


def _has_blocks(tree: Tree, main: str, claim: Claim) -> bool:
    """Whether the file of our own names the lineage."""
    path = os.path.join(os.path.dirname(main), SNI_FILE)
    return any(a.path == path and claim.owns(a.value) for a in tree.assignments if a.is_file)
