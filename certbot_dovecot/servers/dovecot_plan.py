"""Which bytes of a Dovecot configuration change, so that a lineage is served.  Pure.

The first lineage is the default certificate: the global settings, where they are written, else where the layout mentions them,
else at the end of the main file.  Settings of other scopes (``protocol``, ``local``, ``local_name``) that would override them
for the lineage's names are switched too; where such a scope serves a certificate of other names, it is left alone.

A further lineage, of other names, gets ``local_name`` scopes in one file of our own (:data:`SNI_FILE`), and an include of that
file: at the end of the main file, or in 2.3, where the first match wins, before a scope that would match.  In the file, exact
names win over wildcards, whatever the version; names of the default certificate that a wildcard would take are in it, too
(:mod:`~certbot_dovecot.servers.by_name`).

Certificate and key change in one rename: where they stand in different files, both go into the later one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from certbot_dovecot.files import Edit
from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers import by_name
from certbot_dovecot.servers import dovecot_edit as edit
from certbot_dovecot.servers.contract import Claim, Pair
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
    path = _sni_path(main)
    table = _entries(tree, path)
    if not claim.explicit:
        for scope in _ours(tree, claim):
            if not _is_in(tree, scope, path):
                _switch(draft, scope, claim)
        if not table:
            return draft.edits(), draft.notes
        wanted = _renewed(tree, claim, table)
    else:
        off = tree.effective("ssl")
        if off is not None and off.value == "no":
            raise ConfProblem(
                "TLS is switched off here (ssl = no)", where=off.where, left="Nothing was changed", todo="Set ssl = yes"
            )
        default = _is_default(tree, claim)
        if default:
            _take_default(draft, main, claim)
        left = _by_name(draft, claim, default, path)
        wanted = _installed(draft, claim, table, left, default)
    # What is not included yet is written first: the last edit makes it effective.
    of_claim = claim.pair if claim.explicit else None
    return _sni(draft, main, table, wanted, sni_file, of_claim) + draft.edits(), draft.notes


def without(tree: Tree, main: str, claim: Claim, sni_file: Optional[bytes]) -> list[Edit]:
    """The edit of :data:`SNI_FILE` after which the lineage of ``claim`` is not in it; parameters as for :func:`plan`."""
    path = _sni_path(main)
    table = _entries(tree, path)
    if sni_file is None:
        return []
    if path not in tree.files:
        # Nothing reads it: a run that was killed has taken the include out.
        paths = [os.fsdecode(one) for one in re.findall(rb"(?m)^ +\w+ = <?(\S+)$", sni_file)]
        return [Edit(path, sni_file, None)] if all(map(claim.owns, paths)) else []
    cert = _default_cert(tree)
    had = claim.covers(cert) or () if claim.owns(cert) else ()
    named, _ = by_name.assign(_further(table, "" if had else cert), claim, (), had=had)
    shields = {} if claim.owns(cert) else _shields(tree, claim, table, named, cert)
    wanted = {**shields, **named}
    if wanted and wanted == table:
        return []
    return [Edit(path, sni_file, _text(tree, wanted) if wanted else None)]


def _installed(
    draft: Draft, claim: Claim, table: Mapping[str, Pair], left: Sequence[str], default: bool
) -> dict[str, Pair]:
    """The entries of the file of our own after an install; what is taken from another lineage is noted.

    :param left: names that need an entry: of a further lineage, or of the default one where a block of the admin's matches.
    """
    tree = draft.tree
    cert = claim.pair.cert if default else _default_cert(tree)
    names = by_name.keys(claim.names)
    further = table if default else _further(table, cert)
    before = _default_cert(tree)
    had = claim.covers(before) or () if claim.owns(before) else ()
    named, taken = by_name.assign(further, claim, () if default else left, names if default else (), had)
    for name in taken:
        draft.notes.append(f"Dovecot: {name} was served with {table[name].cert}; it is served with this lineage now.")
    shields = _shields(tree, claim, table, named, cert)
    return {**dict(sorted({**shields, **dict.fromkeys(left if default else (), claim.pair)}.items())), **named}


def _renewed(tree: Tree, claim: Claim, table: Mapping[str, Pair]) -> dict[str, Pair]:
    """The entries of the file of our own after a renewal, which may have changed the names."""
    before = _default_cert(tree)
    cert = claim.pair.cert if claim.owns(before) else before
    further = _further(table, before)
    if claim.owns(before):
        further = {name: pair for name, pair in further.items() if not claim.owns(pair.cert)}
    elsewhere = {name for scope in _ours(tree, claim) for name in _patterns(scope)} - set(table)
    mine, names = by_name.keys(claim.names), []
    if any(claim.owns(pair.cert) for pair in further.values()):
        names = [name for name in mine if name not in elsewhere]
    theirs = claim.covers(before) or ()
    had, held = (theirs, ()) if claim.owns(before) else ((), theirs)
    named, _ = by_name.assign(further, claim, names, mine if had else (), had, held)
    return {**_shields(tree, claim, table, named, cert), **named}


def _default_cert(tree: Tree) -> str:
    """The file of the global certificate; empty if it is none."""
    cert = tree.effective(tree.dialect.cert)
    return cert.value if cert is not None and cert.is_file else ""


def _further(table: Mapping[str, Pair], default: str) -> dict[str, Pair]:
    """The entries of lineages that are not the default one."""
    return {name: pair for name, pair in table.items() if pair.cert != default}


def _shields(
    tree: Tree, claim: Claim, table: Mapping[str, Pair], named: Mapping[str, Pair], cert: str
) -> dict[str, Pair]:
    """Entries for names of the default certificate, if that is ours, which another entry or a block of the admin's would take.

    :param table: the entries as they are.
    :param named: the entries of further lineages, as they are to be.
    :param cert: the file of the default certificate, as it is to be.
    """
    if cert == claim.pair.cert or claim.owns(cert):
        pair, names = claim.pair, by_name.keys(claim.names)
        mine = {name for name, one in table.items() if claim.owns(one.cert)}
    elif claim.another(cert):
        key = tree.effective(tree.dialect.key)
        pair, mine = Pair(cert, key.value if key else ""), {name for name, one in table.items() if one.cert == cert}
        wild = mine or any(map(by_name.is_wildcard, named))
        names = by_name.keys(claim.covers(cert) or ()) if wild else []
    else:
        return {}
    found = by_name.shields(named, {pair: names})
    # A block of the admin's got its entry at an install, and keeps it for as long as there is that block.
    kept = mine.intersection(names).difference(named)
    if kept:
        path = next(one for one in tree.files if os.path.basename(one) == SNI_FILE)
        scopes = [scope for scope in tree.scopes(_settings(tree)) if not _is_in(tree, scope, path)]
        kept = _matched([pattern for scope in scopes for pattern in _patterns(scope)], kept)
    return dict(sorted({**found, **dict.fromkeys(kept, pair)}.items()))


def _patterns(scope: Scope) -> list[str]:
    """What a scope says of names, lower case."""
    return [pattern.lower() for kind, argument in scope if kind == "local_name" for pattern in argument.split()]


def _matched(patterns: Iterable[str], names: Iterable[str]) -> set[str]:
    """Those of ``names`` that a ``local_name`` matches."""
    those, given = set(names), set(patterns)
    wild = [pattern for pattern in given if "*" in pattern]
    return (those & given) | {name for name in those if any(name_matches(pattern, name) for pattern in wild)}


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
            names = by_name.shown(_others_names(tree, scope, claim))
            draft.notes.append(f"Dovecot: {found.where} keeps its certificate, which is for other names ({names}).")


def _covered(tree: Tree, scope: Scope, claim: Claim, before: str) -> bool:
    """Whether a scope without a name serves what this lineage is for."""
    cert = tree.effective(tree.dialect.cert, scope)
    if cert is None or not cert.is_file or cert.value == before or claim.owns(cert.value):
        return True
    return not _others_names(tree, scope, claim)


def _others_names(tree: Tree, scope: Scope, claim: Claim) -> tuple[str, ...]:
    """The names of the certificates of a scope, if they are others' (rule R14)."""
    found = [tree.effective(setting, scope) for setting in (tree.dialect.cert, tree.dialect.alt_cert)]
    return by_name.others_names(claim, [one.value for one in found if one is not None and one.is_file])


def _by_name(draft: Draft, claim: Claim, default: bool, path: str) -> list[str]:
    """Switch the scopes that are for names of the lineage alone; the names that still need a scope of their own."""
    tree = draft.tree
    names = by_name.keys(claim.names)
    wanted = set(names)
    left = [] if default else names
    for scope in tree.scopes(_settings(tree)):
        patterns = _patterns(scope)
        if not patterns:
            if scope and not default:
                _refuse_conflict(tree, scope, claim)
            continue
        if _is_in(tree, scope, path):
            continue
        if set(patterns) <= wanted:
            _switch(draft, scope, claim)
            if len(scope) == 1:
                left = [name for name in left if name not in patterns]
        elif default:
            # Part of this block's names are ours, or its wildcard covers one: that name needs a block of its own.
            left += sorted(_matched(patterns, wanted).difference(left))
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


def _sni_path(main: str) -> str:
    return os.path.join(os.path.dirname(main), SNI_FILE)


def _is_in(tree: Tree, scope: Scope, path: str) -> bool:
    """Whether a scope stands in the file ``path``, and nowhere else."""
    return all(a.path == path for a in _pair(tree, scope) if a is not None)


def _entries(tree: Tree, path: str) -> dict[str, Pair]:
    """What the file of our own says, in its order: name or wildcard to pair."""
    found: dict[str, Pair] = {}
    for scope in tree.scopes(_settings(tree)):
        cert, key = _pair(tree, scope)
        if cert is not None and key is not None and cert.path == path:
            found.update(dict.fromkeys(_patterns(scope), Pair(cert.value, key.value)))
    return found


def _sni(
    draft: Draft,
    main: str,
    table: Mapping[str, Pair],
    wanted: Mapping[str, Pair],
    there: Optional[bytes],
    of_claim: Optional[Pair],
) -> list[Edit]:
    """The edits of the file of our own; its include goes into the draft.

    :param table: its entries as they are.
    :param wanted: as they are to be.
    :param of_claim: the pair of an install; None for a renewal.
    """
    path = _sni_path(main)
    if not (table or wanted):
        return []
    # What a renewal does not change, it does not move before blocks of the admin's either.
    _include(draft, main, path, [name for name, pair in wanted.items() if pair != table.get(name) or pair == of_claim])
    data = _text(draft.tree, wanted)
    return [] if data == there else [Edit(path, there, data)]


def _text(tree: Tree, entries: Mapping[str, Pair]) -> bytes:
    """The file of our own: exact names where they win over wildcards."""
    groups: dict[tuple[bool, Pair], list[str]] = {}
    for name, pair in entries.items():
        groups.setdefault((by_name.is_wildcard(name), pair), []).append(name)
    lines: list[bytes] = []
    for (_, pair), names in sorted(groups.items(), key=lambda one: one[0][0] is tree.dialect.first_wins):
        lines += _block(tree, names, pair.cert, pair.key)
    return _HEAD + b"".join(line + b"\n" for line in lines)


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


def _include(draft: Draft, main: str, sni: str, names: Sequence[str]) -> None:
    """Include the file of our own where its entries for ``names`` count, if it is not there already.

    2.3 may need it a second time, before a block that would match; twice the same is the same.
    """
    tree = draft.tree
    path, at = main, len(tree.files[main])
    block = _first_match(tree, sni, names) if tree.dialect.first_wins else None
    if block is not None:
        path, at = block.path, block.start
    elif sni in tree.files:
        return
    root = os.path.dirname(main)
    text = SNI_FILE if os.path.dirname(path) == root else os.path.join(root, SNI_FILE)
    draft.add(path, edit.insert(tree, path, at, [os.fsencode(f"!include_try {edit.checked(text)}")]))


def _first_match(tree: Tree, sni: str, names: Sequence[str]) -> Optional[Block]:
    """The first block of the global scope that matches one of ``names``, before those of the file of our own."""
    for block in tree.blocks:
        if block.path == sni:
            return None
        if len(block.scope) == 1 and _matched(_patterns(block.scope), names):
            return block
    return None
