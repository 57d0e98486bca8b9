"""Sums of products of numbers and symbols, read from tokens and written in one order.

Products of sums are not expanded and nothing is approximated, so that the work is bounded by the length of the text.
What cannot be read with certainty is `Unreadable`: `f(x)` (a product or a call), `1/2x`, `2 3`, factorials, functions.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BITS = 2048
"""No number grows beyond this; 617 digits, below the least limit Python allows on writing an integer."""
MAX_POWER = 1000
MAX_DEPTH = 24
MAX_TOKENS = 400

_SYMBOL = re.compile(
    r"\\(?:pi|alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|varphi"
    r"|chi|psi|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega)"
)
_NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LETTERS = re.compile(r"[A-Za-z]|(?!ln|lg|no)[a-z]{2}")
_ROOT = re.compile(r"\\sqrt\{([0-9]+)\}")
_CLOSING = {"(": ")", "{": "}"}

Factors = tuple[tuple[str, int], ...]
Terms = dict[Factors, Fraction]


class Unreadable(Exception):
    """The tokens are not algebra that can be read with certainty."""


def simplify(tokens: Sequence[str]) -> str | None:
    """Return the one way to write what `tokens` say, or None if they cannot be read."""
    if len(tokens) > MAX_TOKENS:
        return None
    try:
        return _write(_Reader(tokens).read())
    except Unreadable:
        return None


class _Reader:
    """Reads one expression by recursive descent, to a bounded depth."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [*tokens, ""]
        self._at = 0
        self._depth = 0

    def read(self) -> Terms:
        terms = self._sum("")
        if self._at != len(self._tokens):
            raise Unreadable
        return terms

    @property
    def _next(self) -> str:
        return self._tokens[self._at]

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _sum(self, closing: str) -> Terms:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable
        total: Terms = {}
        sign = self._take() if self._next in ("+", "-") else "+"
        while True:
            _accumulate(total, self._product(), -1 if sign == "-" else 1)
            sign = self._take()
            if sign == closing:
                break
            if sign not in ("+", "-"):
                raise Unreadable
        self._depth -= 1
        return total

    def _product(self) -> Terms:
        mixed = self._mixed_number()
        terms = self._power() if mixed is None else _constant(mixed)
        operator = ""
        while self._next not in ("", "+", "-", ")", "}"):
            operator = self._operator(operator)
            factor = self._power()
            terms = _multiply(terms, _raise(factor, -1) if operator == "/" else factor)
        return terms

    def _operator(self, before: str) -> str:
        """Take the next operator; none means a product, save after a division, before a number, or in a likely call."""
        if self._next in ("*", "/"):
            return self._take()
        called = self._next == "(" and self._tokens[self._at - 1][-1].isalpha() and self._tokens[self._at - 1] != r"\pi"
        if before == "/" or called or _NUMBER.fullmatch(self._next):
            raise Unreadable
        return ""

    def _mixed_number(self) -> Fraction | None:
        r"""Take `1\frac{1}{2}` or `1 1/2`: an integer beside a proper fraction of integers."""
        ahead = self._tokens[self._at : self._at + 8]
        if ahead[1:3] == [r"\frac", "{"] and ahead[4:8:3] == ["}", "}"] and ahead[5] == "{":
            parts, length = [ahead[0], ahead[3], ahead[6]], 8
        elif ahead[2:3] == ["/"]:
            parts, length = [ahead[0], ahead[1], ahead[3]], 4
        else:
            return None
        if not all(part.isdecimal() for part in parts):
            return None
        whole, numerator, denominator = (_number(part) for part in parts)
        if not 0 < numerator < denominator:
            return None
        self._at += length
        return whole + numerator / denominator

    def _power(self) -> Terms:
        base = self._atom()
        if self._next != "^":
            return base
        self._take()
        if self._next.isalpha() and len(self._next) > 1:  # TeX raises the first letter only
            raise Unreadable
        exponent = self._atom()
        if self._next == "^":
            raise Unreadable
        value = _value(exponent)
        if value is None or value.denominator != 1:
            return _symbol(f"({_write(base)})^({_write(exponent)})")
        return _raise(base, int(value))

    def _atom(self) -> Terms:
        if self._next in _CLOSING:
            return self._group()
        token = self._take()
        if _NUMBER.fullmatch(token):
            return _constant(_number(token))
        if _SYMBOL.fullmatch(token):
            return _symbol(token)
        if _LETTERS.fullmatch(token):
            return self._letters(token)
        if token == r"\frac":
            return _multiply(self._argument(), _raise(self._argument(), -1))
        if token == r"\sqrt":
            return _root(self._argument())
        raise Unreadable

    def _letters(self, token: str) -> Terms:
        """Read `pq` as a product, whose last letter alone a power would bind."""
        if len(token) == 1:
            return _symbol(token)
        if self._next == "^":
            raise Unreadable
        return _multiply(_symbol(token[0]), _symbol(token[1]))

    def _argument(self) -> Terms:
        if self._next != "{":
            raise Unreadable
        return self._group()

    def _group(self) -> Terms:
        return self._sum(_CLOSING[self._take()])


def _number(token: str) -> Fraction:
    mantissa, _, exponent = token.lower().partition("e")
    if len(mantissa) + abs(int(exponent or 0)) > MAX_BITS // 4:
        raise Unreadable
    return _bounded(Fraction(token))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise Unreadable
    return value


def _constant(value: Fraction) -> Terms:
    return {(): value} if value else {}


def _symbol(name: str) -> Terms:
    return {((name, 1),): Fraction(1)}


def _value(terms: Terms) -> Fraction | None:
    """Return the number that `terms` are, or None if a symbol is among them."""
    return terms.get((), Fraction(0)) if not terms.keys() - {()} else None


def _accumulate(total: Terms, terms: Terms, sign: int) -> None:
    for factors, coefficient in terms.items():
        total[factors] = _bounded(total.get(factors, Fraction(0)) + sign * coefficient)
        if not total[factors]:
            del total[factors]


def _multiply(left: Terms, right: Terms) -> Terms:
    for scale, terms in ((_value(left), right), (_value(right), left)):
        if scale is not None:
            return {factors: _bounded(scale * coefficient) for factors, coefficient in terms.items() if scale}
    (left_factors, left_coefficient), (right_factors, right_coefficient) = _single(left), _single(right)
    return _collect((*left_factors, *right_factors), left_coefficient * right_coefficient)


def _raise(terms: Terms, power: int) -> Terms:
    factors, coefficient = _single(terms)
    bits = max(coefficient.numerator.bit_length(), coefficient.denominator.bit_length())
    if abs(power) > MAX_POWER or bits * abs(power) > 2 * MAX_BITS or (not coefficient and power <= 0):
        raise Unreadable
    return _collect(tuple((name, exponent * power) for name, exponent in factors), coefficient**power)


def _single(terms: Terms) -> tuple[Factors, Fraction]:
    """Return `terms` as one product; a sum becomes a factor of its own, scaled so that its first term has no number."""
    if not terms:
        return (), Fraction(0)
    if len(terms) == 1:
        return next(iter(terms.items()))
    scale = terms[min(factors for factors in terms if factors)]
    body = _write({factors: _bounded(coefficient / scale) for factors, coefficient in terms.items()})
    return ((f"({body})", 1),), scale


def _collect(factors: Factors, coefficient: Fraction) -> Terms:
    """Add the exponents of equal factors; of a square root of an integer at most the first power stays."""
    exponents: dict[str, int] = {}
    for name, exponent in factors:
        exponents[name] = exponents.get(name, 0) + exponent
    for name, exponent in exponents.items():
        root = _ROOT.fullmatch(name)
        if root is not None and exponent not in (0, 1):
            whole, exponents[name] = divmod(exponent, 2)
            coefficient *= _raise(_constant(_number(root[1])), whole)[()]
    kept = tuple(sorted((name, exponent) for name, exponent in exponents.items() if exponent))
    return {kept: _bounded(coefficient)} if coefficient else {}


def _root(terms: Terms) -> Terms:
    value = _value(terms)
    if value is None or value < 0:
        return _symbol(rf"\sqrt{{{_write(terms)}}}")
    outside, inside = _square_part(int(_bounded(Fraction(value.numerator * value.denominator))))
    scale = _constant(Fraction(outside, value.denominator))
    return scale if inside == 1 else _multiply(scale, _symbol(rf"\sqrt{{{inside}}}"))


def _square_part(number: int) -> tuple[int, int]:
    """Write a number as outside squared times inside, looking for small factors only."""
    whole = math.isqrt(number)
    if whole * whole == number:
        return whole, 1
    outside = 1
    for factor in range(2, 100):
        while number % (factor * factor) == 0:
            number //= factor * factor
            outside *= factor
    return outside, number


def _write(terms: Terms) -> str:
    constant = terms.get((), Fraction(0))
    parts = [_write_term(factors, terms[factors]) for factors in sorted(terms) if factors]
    if constant or not parts:
        parts.append(str(constant))
    return "".join(part if part[0] == "-" else "+" + part for part in parts).removeprefix("+")


def _write_term(factors: Factors, coefficient: Fraction) -> str:
    names = [_write_power(name, exponent) for name, exponent in factors]
    if coefficient == -1:
        return "-" + "*".join(names)
    return "*".join(names if coefficient == 1 else [str(coefficient), *names])


def _write_power(name: str, exponent: int) -> str:
    if exponent == 1:
        return name
    base = f"({name})" if ")^(" in name else name
    return f"{base}^{exponent}" if exponent > 0 else f"{base}^{{{exponent}}}"
