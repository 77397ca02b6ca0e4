"""The jinja2 environment chat templates run in: sandboxed, with limits, and with what templates of checkpoints expect.

A template comes with a checkpoint and is run once per request, so it must not be able to reach the interpreter, to run
for ever or to fill the memory. jinja2's immutable sandbox does the first. For the others every turn of a loop and every
call of a macro pays from a budget, which also looks at the clock, and every operator that can make a long string or
list out of short ones, and every joining of output, is bounded. Counting turns rather than only time makes the limit
the same on every machine.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

#: Turns of loops and calls of macros in one rendering; a conversation of a thousand messages takes a few thousand.
MOST_TURNS = 500_000
#: Seconds of one rendering.
MOST_SECONDS = 10.0
#: Characters of the output, and of any string on the way: about eight million tokens.
MOST_CHARACTERS = 32 * 2**20
#: Width and precision in a format of the ``%`` operator.
_FORMAT_FIELD = re.compile(r"%(?:\(\w*\))?[-+ #0]*(\d+|\*)?(?:\.(\d+|\*))?")


class _Budget:
    def __init__(self) -> None:
        self.turns = MOST_TURNS
        self.deadline = time.monotonic() + MOST_SECONDS

    def spend(self) -> None:
        self.turns -= 1
        if self.turns < 0:
            raise SecurityError(f"it takes more than {MOST_TURNS:,} turns of loops")
        if not self.turns % 64 and time.monotonic() > self.deadline:
            raise SecurityError(f"it takes longer than {MOST_SECONDS:g} seconds")


_budget: ContextVar[_Budget | None] = ContextVar("openlathe_template_budget", default=None)


@contextmanager
def limits() -> Iterator[None]:
    """A fresh budget for the rendering inside; ``SecurityError`` once it is spent."""
    token = _budget.set(_Budget())
    try:
        yield
    finally:
        _budget.reset(token)


def _spend() -> str:
    if (budget := _budget.get()) is not None:
        budget.spend()
    return ""


def _bounded_join(parts: Iterable[Any]) -> str:
    """``"".join`` that stops at the limit, while the parts are still being made."""
    texts, length = [], 0
    for part in parts:
        text = str(part)
        length += len(text)
        _check_length(length)
        texts.append(text)
    return "".join(texts)


def _check_length(length: int) -> None:
    if length > MOST_CHARACTERS:
        raise SecurityError(f"it makes more than {MOST_CHARACTERS:,} characters")


class _Metered(NodeTransformer):
    """Makes loops and macros pay, and string concatenation bounded."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._paying(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._paying(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._paying(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _environment_call("join_all", node.nodes, node.lineno)

    def _paying(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        call = _environment_call("spend", [], node.lineno)
        node.body.insert(0, nodes.ExprStmt(call).set_lineno(node.lineno))
        return cast(nodes.Node, node)


def _environment_call(name: str, arguments: list[nodes.Expr], lineno: int) -> nodes.Call:
    call = nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)
    call.set_lineno(lineno)
    return call


class _Generation(Extension):
    """``{% generation %}`` marks what a model wrote, for training; here its body is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012  (so declared in the base class)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Namespace(Namespace):
    """Without names that begin with an underscore, through which objects could pose as others."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        Namespace.__init__(self)
        for name, value in dict(*rest, **kwargs).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError(f"it sets {name!r} on a namespace")
        Namespace.__setitem__(self, name, value)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """See the module's docstring."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])
    concat = staticmethod(_bounded_join)

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.filters["tojson"] = _tojson
        self.globals.update(raise_exception=_raise, strftime_now=_now, namespace=_Namespace)
        self.spend: Callable[[], str] = _spend
        self.join_all: Callable[..., str] = lambda *parts: _bounded_join(parts)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Metered().visit(source), *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_length(_length_of(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        if isinstance(getattr(function, "__self__", None), str):  # "x".ljust(10**9)
            _check_length(max((arg for arg in args if isinstance(arg, int)), default=0))
        return super().call(context, function, *args, **kwargs)


def _length_of(operator: str, left: Any, right: Any) -> int:
    """At least the length of the result where that is a string, a list or a number of many digits."""
    if operator == "+":
        return len(left) + len(right) if hasattr(left, "__len__") and hasattr(right, "__len__") else 0
    if operator == "*":
        for sequence, count in ((left, right), (right, left)):
            if hasattr(sequence, "__len__") and isinstance(count, int):
                return len(sequence) * count
        return 0
    if operator == "**":
        return left.bit_length() * right if isinstance(left, int) and isinstance(right, int) else 0
    if not isinstance(left, str):
        return 0
    sizes = [size for field in _FORMAT_FIELD.findall(left) for size in field]
    return MOST_CHARACTERS + 1 if "*" in sizes else sum(int(size[:12]) for size in sizes if size)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON for a prompt: unlike jinja2's own filter nothing is escaped for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)


@lru_cache(maxsize=1)
def environment() -> TemplateEnvironment:
    return TemplateEnvironment()


@lru_cache(maxsize=64)
def compile_template(source: str) -> tuple[jinja2.Template, nodes.Template]:
    """The template and its syntax tree; raises ``jinja2.TemplateSyntaxError``."""
    return environment().from_string(source), environment().parse(source)
