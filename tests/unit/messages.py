"""Every problem that the code can tell an admin, and every finding of ``status``, collected from the syntax trees.

A *template* is the text with ``...`` for what is only known at run time.  What is followed: constants, f-strings, sums, either
branch of a condition; functions that make a problem of a parameter ``what``, wherever they are called; functions of the same
file, or of another one of the package, that return a text; and variables of which the same function, or else the file, says the
text (within an f-string only ``what``).  What cannot be followed is no template but an error, so that nothing is missed in
silence.
"""

from __future__ import annotations

import ast
import inspect
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Optional, Union

import certbot_dovecot
from certbot_dovecot import problems

ROOT = pathlib.Path(certbot_dovecot.__file__).parent
CLASSES = frozenset(
    name for name, kind in vars(problems).items() if inspect.isclass(kind) and issubclass(kind, problems.Problem)
)
HOLE = "..."

_Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


@dataclass(frozen=True)
class Message:
    """One problem, at one place of the code.

    :param template: its text.
    :param at: file and line.
    :param where: whether it says where it happened, by itself (``where=``).
    :param todo: whether it says what to do now.
    """

    template: str
    at: str
    where: bool
    todo: bool


@dataclass
class _Module:
    name: str
    tree: ast.Module
    inside: dict[ast.AST, tuple[_Function, ...]] = field(default_factory=dict)
    #: Calls of which nobody takes what they return: no problem that is told.
    unused: set[ast.AST] = field(default_factory=set)

    def functions(self, name: str) -> Iterator[_Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef) and node.name == name)


@dataclass(frozen=True)
class _Maker:
    """A function that makes a problem of its parameters."""

    module: str
    function: str
    parameters: tuple[str, ...]
    defaults: dict[str, ast.expr]
    construction: ast.Call


class Unfollowed(Exception):
    """A text that the collector cannot find."""


def collect(root: pathlib.Path = ROOT) -> tuple[Message, ...]:
    """All of them, by file and line.

    :raises Unfollowed: with file and line.
    """
    modules = [_read(path, root) for path in sorted(root.rglob("*.py")) if path.name != "problems.py"]
    makers: list[_Maker] = []
    found: list[Message] = []
    for module in modules:
        for call in _calls(module.tree):
            if _name(call.func) in CLASSES:
                maker = _maker(module, call)
                if maker is not None:
                    makers.append(maker)
                else:
                    found += _messages(module, call, call, {}, ())
    for module in modules:
        for call in _calls(module.tree):
            for maker in makers:
                if call in module.unused:
                    continue
                if _name(call.func) == maker.function and (module.name == maker.module or _is_of(call.func, maker.module)):
                    found += _messages(module, call, maker.construction, _arguments(call, maker), maker.parameters)
    return tuple(sorted(set(found), key=lambda one: one.at))


def findings(*paths: pathlib.Path) -> tuple[Message, ...]:
    """What ``certbot-dovecot status`` may find, by file and line; what begins with a blank goes on behind an endpoint.

    :raises Unfollowed: with file and line.
    """
    every = (ROOT / "health.py", ROOT / "monitoring" / "upkeep.py", ROOT / "monitoring" / "findings.py")
    return tuple(one for path in paths or every for one in _findings(path))


def _findings(path: pathlib.Path) -> tuple[Message, ...]:
    module = _read(path, path.parent)
    found = []
    for call in _calls(module.tree):
        if _name(call.func) == "Finding":
            says = dict(zip(("grade", "lineage", "what", "todo"), call.args))
            says.update({keyword.arg: keyword.value for keyword in call.keywords if keyword.arg})
            at = f"{module.name}:{call.lineno}"
            try:
                todo = "todo" in says and all(_texts(module, call, says["todo"], {}))
                texts = list(_texts(module, call, says["what"], {}))
            except Unfollowed as exc:
                raise Unfollowed(f"{at}: {exc}: {ast.unparse(call)}") from exc
            found += [Message(template(HOLE * text.startswith(" ") + text), at, True, todo) for text in texts]
    return tuple(found)


def reasons(path: pathlib.Path = ROOT / "dane" / "rollover.py") -> dict[str, str]:
    """Why a key stays, or may go: what the pure rules give for it, with the line that does.

    These are the texts of steps, and what functions return that return a text.
    """
    module = _read(path, path.parent)
    nodes: list[tuple[ast.AST, ast.expr]] = [
        (call, call.args[1]) for call in _calls(module.tree) if _name(call.func) == "Step" and len(call.args) > 1
    ]
    for node, around in module.inside.items():
        if isinstance(node, ast.Return) and node.value is not None and isinstance(around[-1].returns, ast.Name):
            nodes += [(node, node.value)] if around[-1].returns.id == "str" else []
    found: dict[str, str] = {}
    for node, value in nodes:
        if isinstance(value, (ast.Constant, ast.JoinedStr)):
            for text in _texts(module, node, value, {}):
                found.setdefault(template(text), f"{module.name}:{value.lineno}")
    return {text: at for text, at in found.items() if " " in text}


def template(text: str) -> str:
    """With one hole where several meet, and without a stop."""
    while HOLE + HOLE in text:
        text = text.replace(HOLE + HOLE, HOLE)
    return text.strip()


def _read(path: pathlib.Path, root: pathlib.Path) -> _Module:
    module = _Module(path.relative_to(root).as_posix(), ast.parse(path.read_text()))

    def walk(node: ast.AST, around: tuple[_Function, ...]) -> None:
        module.inside[node] = around
        if isinstance(node, ast.Expr):
            module.unused.add(node.value)
        deeper = (*around, node) if isinstance(node, ast.FunctionDef) else around
        for child in ast.iter_child_nodes(node):
            walk(child, deeper)

    walk(module.tree, ())
    return module


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_of(func: ast.expr, module: str) -> bool:
    """``files.problem`` of ``files.py``."""
    return isinstance(func, ast.Attribute) and _name(func.value) == module.rpartition("/")[2].removesuffix(".py")


def _maker(module: _Module, call: ast.Call) -> Optional[_Maker]:
    """The function around ``call``, if a parameter of it is in the text."""
    around = module.inside[call]
    if not around or not call.args:
        return None
    arguments = around[-1].args
    names = tuple(arg.arg for arg in arguments.args if arg.arg not in ("self", "cls"))
    used = {node.id for node in ast.walk(call.args[0]) if isinstance(node, ast.Name)}
    if not used & set(names) or not _text_parameter(around[-1], call.args[0]):
        return None
    defaults = dict(zip(names[len(names) - len(arguments.defaults) :], arguments.defaults))
    defaults.update({arg.arg: value for arg, value in zip(arguments.kwonlyargs, arguments.kw_defaults) if value is not None})
    names += tuple(arg.arg for arg in arguments.kwonlyargs)
    return _Maker(module.name, around[-1].name, names, defaults, call)


def _text_parameter(function: _Function, text: ast.expr) -> bool:
    """Whether a whole part of ``text`` is a parameter that is a str with the message: it is called ``what``."""
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    names = {_name(part.value if isinstance(part, ast.FormattedValue) else part) for part in parts}
    return "what" in names and any(arg.arg == "what" for arg in function.args.args)


def _arguments(call: ast.Call, maker: _Maker) -> dict[str, ast.expr]:
    given = {**maker.defaults, **dict(zip(maker.parameters, call.args))}
    given.update({keyword.arg: keyword.value for keyword in call.keywords if keyword.arg})
    return given


def _messages(
    module: _Module, call: ast.Call, made: ast.Call, given: dict[str, ast.expr], parameters: Sequence[str]
) -> Iterator[Message]:
    """The messages of a construction, with ``given`` in the place of parameters; none for what hands on another problem."""
    at = f"{module.name}:{call.lineno}"
    says = {keyword.arg: keyword.value for keyword in made.keywords}
    spoken = {name: _spoken(says.get(name), given, parameters) for name in ("where", "todo")}
    try:
        texts = list(_texts(module, call, made.args[0], given))
    except Unfollowed as exc:
        raise Unfollowed(f"{at}: {exc}: {ast.unparse(made.args[0])}") from exc
    for text in texts:
        yield Message(template(text), at, spoken["where"], spoken["todo"])


def _spoken(value: Optional[ast.expr], given: dict[str, ast.expr], parameters: Sequence[str]) -> bool:
    """Whether a part is there: not missing, not empty, and not a parameter that the caller leaves out."""
    if isinstance(value, ast.Name) and value.id in parameters:
        value = given.get(value.id)
    return value is not None and not (isinstance(value, ast.Constant) and not value.value)


def _texts(module: _Module, call: ast.AST, node: ast.expr, given: dict[str, ast.expr]) -> Iterator[str]:
    """What ``node`` may say."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from _joined(module, call, node.values, given)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        for left in _texts(module, call, node.left, given):
            yield from (left + right for right in _either(module, call, node.right, given))
    elif isinstance(node, ast.IfExp):
        yield from _texts(module, call, node.body, given)
        yield from _texts(module, call, node.orelse, given)
    elif isinstance(node, ast.BoolOp):
        # wrong = wrong or "...": the name itself says nothing new.
        for value in node.values:
            if not isinstance(value, ast.Name):
                yield from _texts(module, call, value, given)
    elif isinstance(node, ast.Name):
        if node.id in given:
            yield from _texts(module, call, given[node.id], {})
        else:
            yield from _assigned(module, node.id, module.inside[call][-1:])
    elif isinstance(node, ast.Attribute) and node.attr == "what":
        return
    elif isinstance(node, ast.Attribute):
        yield from _assigned(module, node.attr, (module.tree,))
    elif isinstance(node, ast.Call) and (there := _home(module, node.func)) is not None:
        module = there
        bodies = [ast.walk(function) for function in module.functions(_name(node.func))]
        returned = [one for body in bodies for one in body if isinstance(one, ast.Return)]
        if not returned:
            raise Unfollowed("a function that is not in this file")
        for one in returned:
            if one.value is not None:
                yield from _texts(module, one, one.value, {})
    else:
        raise Unfollowed("a text of a kind that is not known here")


def _home(module: _Module, func: ast.expr) -> Optional[_Module]:
    """The file that a function is of: this one, or ``health.py`` for ``health.again``; None if it is none of the package."""
    if isinstance(func, ast.Name):
        return module
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        path = ROOT / f"{func.value.id}.py"
        return _read(path, ROOT) if path.exists() else None
    return None


def _joined(module: _Module, call: ast.AST, parts: Sequence[ast.expr], given: dict[str, ast.expr]) -> Iterator[str]:
    if not parts:
        yield ""
        return
    first, rest = parts[0], parts[1:]
    heads = [HOLE]
    if isinstance(first, ast.Constant):
        heads = [str(first.value)]
    elif isinstance(first, ast.FormattedValue) and isinstance(first.value, ast.Name) and first.value.id == "what":
        heads = list(_texts(module, call, first.value, given))
    for head in heads:
        yield from (head + tail for tail in _joined(module, call, rest, given))


def _either(module: _Module, call: ast.AST, node: ast.expr, given: dict[str, ast.expr]) -> Iterator[str]:
    try:
        yield from list(_texts(module, call, node, given))
    except Unfollowed:
        yield HOLE


def _assigned(module: _Module, name: str, scopes: Sequence[ast.AST]) -> Iterator[str]:
    """Texts that are assigned to a variable in ``scopes``, or else in the file, outside of its functions."""
    nodes = [node for scope in scopes for node in ast.walk(scope)]
    texts = list(_said_of(module, name, nodes)) or list(_said_of(module, name, module.tree.body))
    if not texts:
        raise Unfollowed(f"nothing in sight says {name}")
    yield from texts


def _said_of(module: _Module, name: str, nodes: Sequence[ast.AST]) -> Iterator[str]:
    for node in nodes:
        for target in node.targets if isinstance(node, ast.Assign) else []:
            if isinstance(target, ast.Name) and target.id == name and not _empty(node.value):
                yield from _texts(module, node, node.value, {})


def _empty(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not node.value


def sites(root: pathlib.Path = ROOT / "checks") -> dict[str, str]:
    """Every place where a check of ``doctor`` says something: ``file:function:number`` to the source of that function.

    A place is a ``Finding`` that is made with its severity, or a tuple that begins with one, which somebody makes a finding of.
    """
    found: dict[str, str] = {}
    for place, module, node in _sites(root):
        around = module.inside[node]
        text = (root / module.name).read_text()
        found[place] = (ast.get_source_segment(text, around[-1]) if around else text) or ""
    return found


def todos(root: pathlib.Path = ROOT / "checks") -> dict[str, list[str]]:
    """The remedies of the same places, each text that it may be; what is added to it with ``+=`` stands behind each.

    :raises Unfollowed: with the place.
    """
    found = {}
    for place, module, node in _sites(root):
        says = dict(zip(("check", "severity", "what", "where", "todo"), node.args)) if isinstance(node, ast.Call) else {}
        value = says.get("todo") or (node.elts[-1] if isinstance(node, ast.Tuple) else None)
        assert value is not None, place
        try:
            texts = list(_told(module, node, value))
        except Unfollowed as exc:
            raise Unfollowed(f"{place}: {exc}: {ast.unparse(value)}") from exc
        added = "".join(_added(module, node, value.id)) if isinstance(value, ast.Name) else ""
        found[place] = [text + added for text in texts]
    return found


def _told(module: _Module, node: ast.AST, value: ast.expr) -> Iterator[str]:
    """Also where a variable is one of several that are assigned at once."""
    try:
        yield from list(_texts(module, node, value, {}))
    except Unfollowed:
        pairs = [one for one in ast.walk(module.inside[node][-1]) if isinstance(one, ast.Assign)]
        texts = [
            text
            for one in pairs
            for target in one.targets
            if isinstance(target, ast.Tuple) and isinstance(one.value, ast.Tuple) and isinstance(value, ast.Name)
            for name, said in zip(target.elts, one.value.elts)
            if _name(name) == value.id
            for text in _texts(module, node, said, {})
        ]
        if not texts:
            raise
        yield from texts


def _added(module: _Module, node: ast.AST, name: str) -> Iterator[str]:
    for one in ast.walk(module.inside[node][-1]):
        if isinstance(one, ast.AugAssign) and _name(one.target) == name:
            parts = [part for part in ast.walk(one.value) if isinstance(part, (ast.Constant, ast.JoinedStr))]
            joined = [part for part in parts if isinstance(part, ast.JoinedStr)]
            inside = {id(deeper) for part in joined for deeper in ast.walk(part) if deeper != part}
            for part in parts:
                if id(part) not in inside and (isinstance(part, ast.JoinedStr) or isinstance(part.value, str)):
                    yield from _texts(module, node, part, {})


def _sites(root: pathlib.Path) -> Iterator[tuple[str, _Module, ast.AST]]:
    for path in sorted(root.rglob("*.py")):
        module = _read(path, root)
        numbers: dict[str, int] = {}
        for node, around in module.inside.items():
            first = node.elts[0] if isinstance(node, ast.Tuple) and len(node.elts) > 1 else None
            if isinstance(node, ast.Call) and _name(node.func) == "Finding" and len(node.args) > 1:
                first = node.args[1]
            said = [one.body for one in [first] if isinstance(one, ast.IfExp)] or [first]
            if isinstance(said[0], ast.Attribute) and _name(said[0].value) == "Severity":
                where = around[-1].name if around else "constants"
                numbers[where] = numbers.get(where, 0) + 1
                yield f"{module.name}:{where}:{numbers[where]}", module, node
