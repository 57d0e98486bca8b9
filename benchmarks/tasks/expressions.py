"""Arithmetic expressions as text: a parser without eval, an exact value and a normal form."""

import re
from collections.abc import Callable
from dataclasses import dataclass

_LONGEST = 64
_TOKEN = re.compile(r"\s*([0-9]{1,6}|\\times|\\div|[-+*/()x×÷−])\s*")
_SPELLINGS = {"x": "*", "×": "*", "\\times": "*", "÷": "/", "\\div": "/", "−": "-"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on two expressions."""

    operator: str
    left: "Expression"
    right: "Expression"


Expression = int | Operation


class _Unreadable(ValueError):
    """Raised when a text is no expression."""


class _Parser:
    """Reads an expression by recursive descent; both levels of precedence associate to the left."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._position = 0

    def parse(self) -> Expression:
        expression = self._sum()
        if self._next() != "":
            raise _Unreadable
        return expression

    def _sum(self) -> Expression:
        return self._level("+-", self._product)

    def _product(self) -> Expression:
        return self._level("*/", self._operand)

    def _next(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._next()
        self._position += 1
        return token

    def _level(self, operators: str, operand: Callable[[], Expression]) -> Expression:
        expression = operand()
        while (token := self._next()) and token in operators:
            self._position += 1
            expression = Operation(token, expression, operand())
        return expression

    def _operand(self) -> Expression:
        token = self._take()
        if token.isdigit():
            return int(token)
        if token != "(":
            raise _Unreadable
        expression = self._sum()
        if self._take() != ")":
            raise _Unreadable
        return expression


def _tokens(text: str) -> list[str]:
    # What lies between the tokens is every other piece; an expression has nothing there.
    pieces = _TOKEN.split(text, maxsplit=_LONGEST)
    if any(pieces[::2]):
        raise _Unreadable
    return [_SPELLINGS.get(token, token) for token in pieces[1::2]]


def parse(text: str) -> Expression | None:
    """Read an expression of + - * / and brackets, of at most 64 tokens; None where the text is none."""
    try:
        return _Parser(text).parse()
    except _Unreadable:
        return None


def leaves(expression: Expression) -> list[int]:
    """Return the numbers of an expression, from left to right."""
    if isinstance(expression, int):
        return [expression]
    return leaves(expression.left) + leaves(expression.right)


def value(expression: Expression) -> int | None:
    """Return the value, or None where a division is not exact."""
    if isinstance(expression, int):
        return expression
    left, right = value(expression.left), value(expression.right)
    return None if left is None or right is None else apply(left, expression.operator, right)


def apply(left: int, operator: str, right: int) -> int | None:
    """Return the result of one operation, or None where a division is not exact."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    return left // right if right != 0 and left % right == 0 else None


def normal_form(expression: str) -> str | None:
    """Return a text that is the same for expressions equal by commutativity and associativity.

    Returns:
        The normal form, itself an expression; None where the text is no expression.
    """
    parsed = parse(expression)
    return None if parsed is None else _normal(parsed)


def _normal(expression: Expression) -> str:
    if isinstance(expression, int):
        return str(expression)
    direct, inverse = ("+", "-") if expression.operator in "+-" else ("*", "/")
    kept, inverted = _operands(expression, direct, inverse)
    joined = f" {direct} ".join(_ordered(kept))
    return joined + "".join(f" {inverse} {text}" for text in _ordered(inverted))


def _operands(expression: Expression, direct: str, inverse: str) -> tuple[list[str], list[str]]:
    """Flatten nested operations of one precedence into operands kept and operands inverted."""
    if isinstance(expression, int):
        return [str(expression)], []
    if expression.operator not in (direct, inverse):
        text = _normal(expression)
        return [f"({text})" if direct == "*" else text], []
    kept, inverted = _operands(expression.left, direct, inverse)
    others = _operands(expression.right, direct, inverse)
    plus, minus = others if expression.operator == direct else others[::-1]
    return kept + plus, inverted + minus


def _ordered(texts: list[str]) -> list[str]:
    return sorted(texts, key=lambda text: (len(text), text))
