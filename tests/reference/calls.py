"""What the code of the service records and logs: every call of `record`, `emit`, `warn` and `count`, read as syntax.

A name of an event is a member of `EventName` or `LogName`, a choice between members, or a variable of the function
that holds one of these. The values of most details are literals in the same way. Anything else would be an event that
no reader of the code could look up.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from service.messages.events import EVENTS_WITH_ADDRESS, WARNING_EVENTS
from service.telemetry.event_names import EventName, LogName
from tests.harness.servers import REPOSITORY

SERVICE = REPOSITORY / "service"
_ENUMERATIONS: dict[str, type[EventName] | type[LogName]] = {"EventName": EventName, "LogName": LogName}
_OWN = {"log.py", "metrics.py"}
"""Where the functions are defined that the others call."""

_WITH_ACT_OF_ANY_ACTOR = {EventName.INVITATION_CREATED, EventName.INVITATION_REVOKED, EventName.USER_DELETED}
"""Events of any actor, recorded by functions that get the actor as a part of an `Act`."""

Details = dict[str, set[str]]
"""The names of details, each with the values that are literals."""


@dataclass
class Report:
    """One event: how it is reported, where, and with which details."""

    name: str
    is_recorded: bool = False
    is_logged: bool = False
    levels: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    details: Details = field(default_factory=dict)


class Module:
    """The syntax of one file, in which names can be looked up."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(SERVICE).with_suffix("").as_posix()
        self.tree = ast.parse(path.read_text("utf-8"))
        self.functions = {
            call: function
            for function in ast.walk(self.tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for call in ast.walk(function)
            if isinstance(call, ast.Call)
        }


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the service but the attack suite, which runs elsewhere."""
    return tuple(
        Module(path)
        for path in sorted(SERVICE.rglob("*.py"))
        if path.name not in _OWN and "attack" not in path.relative_to(SERVICE).parts
    )


@cache
def reports() -> dict[str, Report]:
    """Every event by its name."""
    found: dict[str, Report] = {}
    for module in modules():
        for call in ast.walk(module.tree):
            if isinstance(call, ast.Call):
                for name, how, details in _read(module, call):
                    report = found.setdefault(name, Report(name))
                    report.modules.add(module.name)
                    report.is_recorded |= how == "record"
                    report.is_logged |= how != "count"
                    if how == "record":
                        report.levels.add("warning" if name in WARNING_EVENTS else "info")
                    elif how != "count":
                        report.levels.add("warning" if how == "warn" else "info")
                    for detail, values in details.items():
                        report.details.setdefault(detail, set()).update(values)
    return dict(sorted(found.items()))


@cache
def defects() -> tuple[str, ...]:
    """The names of the lines that report a defect of the service itself, with a traceback."""
    return tuple(
        sorted(
            call.args[0].value
            for module in modules()
            for call in ast.walk(module.tree)
            if isinstance(call, ast.Call)
            and ast.unparse(call.func) in {"_log.error", "_log.exception"}
            and isinstance(call.args[0], ast.Constant)
            and isinstance(call.args[0].value, str)
            and " " not in call.args[0].value
        )
    )


def _read(module: Module, call: ast.Call) -> Iterator[tuple[str, str, Details]]:
    """The events that one call reports, with the way it does so."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    arguments = call.args
    counts = ast.unparse(call.func) == "metrics.count"
    if name == "partial" and ast.unparse(arguments[0]) in {"emit", "warn", "metrics.count"}:  # after the commit
        name, arguments = ast.unparse(arguments[0]).removeprefix("metrics."), arguments[1:]
        counts = name == "count"
    if name == "record" and len(arguments) > 1:
        event = arguments[1]
    elif name in {"emit", "warn"} or counts:
        event = arguments[0]
    else:
        return
    details: Details = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            for key, value in _dictionary(module, call, keyword.value):
                details[key] = set(values_of(module, call, value))
        else:
            details[keyword.arg] = set(values_of(module, call, keyword.value))
    names = list(values_of(module, call, event))
    assert names, f"{module.name}: the event of {ast.unparse(call)} cannot be read"
    if name == "record" and (_is_of_any_actor(module, call) or _WITH_ACT_OF_ANY_ACTOR.issuperset(names)):
        details.setdefault("by", {"operator", "client:...", "user:..."})
    for found in names:
        addressed: Details = {"address": set()} if name == "record" and found in EVENTS_WITH_ADDRESS else {}
        yield found, name, details | addressed


def _is_of_any_actor(module: Module, call: ast.Call) -> bool:
    """Whether the function that records the event is told who acts, so that the event may say it."""
    arguments = module.functions[call].args
    return any(
        argument.annotation is not None and ast.unparse(argument.annotation) == "Actor"
        for argument in (*arguments.args, *arguments.kwonlyargs)
    )


def values_of(module: Module, call: ast.Call, node: ast.expr, depth: int = 3) -> Iterator[str]:
    """The names of events and the text literals that an expression can have as its value."""
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) in _ENUMERATIONS:
        yield _ENUMERATIONS[ast.unparse(node.value)][node.attr].value
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
    elif isinstance(node, ast.IfExp):
        yield from values_of(module, call, node.body, depth)
        yield from values_of(module, call, node.orelse, depth)
    elif isinstance(node, ast.Name) and depth and call in module.functions:
        function = module.functions[call]
        for value in _just_before(function, call, node.id) or _assigned(function, node.id):
            yield from values_of(module, call, value, depth - 1)
        if node.id in {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}:
            yield from _passed(function.name, node.id)


def _just_before(function: ast.FunctionDef | ast.AsyncFunctionDef, call: ast.Call, name: str) -> list[ast.expr]:
    """What the variable was given last in the block of the call, whatever it was before that block."""
    for parent in ast.walk(function):
        for block in (getattr(parent, "body", None), getattr(parent, "orelse", None)):
            statements = block if isinstance(block, list) else []
            before: list[ast.expr] = []
            for statement in statements:
                if isinstance(statement, ast.Expr) and any(node is call for node in ast.walk(statement)):
                    return before[-1:]
                if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
                    before.append(statement.value)
    return []


def _assigned(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[ast.expr]:
    """What is assigned to a variable of a function."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        value: ast.expr = node.value
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and target.id == name:
                yield value
            elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                for part, its_value in zip(target.elts, value.elts, strict=True):
                    if isinstance(part, ast.Name) and part.id == name:
                        yield its_value


def _passed(function: str, parameter: str) -> Iterator[str]:
    """The literals that callers give for a parameter."""
    for module in modules():
        for call in ast.walk(module.tree):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == function:
                for keyword in call.keywords:
                    if keyword.arg == parameter and isinstance(keyword.value, ast.Constant):
                        yield str(keyword.value.value)


def _dictionary(module: Module, call: ast.Call, node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """The pairs of the dictionaries that are handed on as `**details`."""
    for found in _dictionaries(module, module.functions[call], node):
        for key, its_value in zip(found.keys, found.values, strict=True):
            assert isinstance(key, ast.Constant)
            yield str(key.value), its_value


def _dictionaries(
    module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef, node: ast.expr
) -> Iterator[ast.Dict]:
    """The dictionaries in a variable of a function, in a union, in a choice, or made by a function of the module."""
    match node:
        case ast.Dict():
            yield node
        case ast.Name():
            for value in _assigned(function, node.id):
                yield from _dictionaries(module, function, value)
        case ast.BinOp(op=ast.BitOr()):
            yield from _dictionaries(module, function, node.left)
            yield from _dictionaries(module, function, node.right)
        case ast.IfExp():
            yield from _dictionaries(module, function, node.body)
            yield from _dictionaries(module, function, node.orelse)
        case ast.Call(func=ast.Name(id=name)):
            for maker in module.tree.body:
                if isinstance(maker, ast.FunctionDef) and maker.name == name:
                    for step in ast.walk(maker):
                        if isinstance(step, ast.Return) and step.value is not None:
                            yield from _dictionaries(module, maker, step.value)
