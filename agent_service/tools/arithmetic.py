"""Works out arithmetic that somebody else wrote, without running any of it as code.

A number is a fraction as long as it can be, so 0.1 + 0.2 is 0.3 and 1/3*3 is 1. What cannot be one (a root, a
logarithm), or would grow too long, goes on as a decimal of 40 digits. Every step is bounded by the length of its
numbers, and the steps by the length of the text, so nothing takes long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from decimal import ROUND_FLOOR, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from fractions import Fraction

MAX_CHARACTERS = 500
_MAX_DEPTH = 50
_MAX_BITS = 4096
"""Of a fraction's parts: about 1,200 digits."""
_MAX_EXPONENT = 9_999
_MOST_ROUNDING = 100
_MOST_PLACES = 30
_EXACT_DIGITS = 20
_SHOWN_DIGITS = 16

Number = Fraction | Decimal

_EXACTLY = Context(prec=40, Emax=_MAX_EXPONENT, Emin=-_MAX_EXPONENT, traps=[InvalidOperation, DivisionByZero, Overflow])
_PI = Decimal("3.141592653589793238462643383279502884197")
_E = Decimal("2.718281828459045235360287471352662497757")

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4}(?![0-9]))?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>\*\*|//|[-+*/%^(),]))"
)
_SIGNS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "π": " pi "})


class NotComputable(Exception):
    """The message says what is wrong, for whoever wrote the expression."""


def compute(expression: str) -> str:
    """The result as text, after a `≈` where it is rounded. Raises `NotComputable`."""
    if len(expression) > MAX_CHARACTERS:
        raise NotComputable(f"The expression has more than {MAX_CHARACTERS} characters.")
    with localcontext(_EXACTLY):
        try:
            return _shown(_Parser(list(_tokens(expression.translate(_SIGNS)))).result())
        except (ZeroDivisionError, DivisionByZero):
            raise NotComputable("Division by zero.") from None
        except (Overflow, OverflowError):
            raise NotComputable("A number in it becomes too large.") from None
        except InvalidOperation:
            raise NotComputable("A function in it has no value there, such as the logarithm of 0.") from None


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each, then an empty one."""
    position = 0
    text = text.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise NotComputable(f"{text[position:].strip()[:20]!r} is not understood. {_KNOWN}")
        assert found.lastgroup is not None, "one of the groups matched"
        yield found.lastgroup, found[found.lastgroup]
        position = found.end()
    yield "end", ""


class _Parser:
    """Python's grammar of arithmetic; `^` is a power too."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def result(self) -> Number:
        value = self._sum()
        if self._tokens[self._next][0] != "end":
            raise NotComputable(f"Something is missing before {self._rest()!r}, such as a sign between two numbers.")
        return value

    def _sum(self) -> Number:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotComputable("The parentheses are nested too deeply.")
        value = self._product()
        while sign := self._take("+", "-"):
            value = _SUMS[sign](value, self._product())
        self._depth -= 1
        return value

    def _product(self) -> Number:
        value = self._signed()
        while sign := self._take("*", "//", "/", "%"):
            value = _PRODUCTS[sign](value, self._signed())
        return value

    def _signed(self) -> Number:
        # A loop, so that a row of signs is not as deep as it is long.
        negative = False
        while sign := self._take("+", "-"):
            negative ^= sign == "-"
        value = self._power()
        return -value if negative else value

    def _power(self) -> Number:
        value = self._atom()
        if self._take("**", "^"):
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise NotComputable("The powers are nested too deeply.")
            value = _power(value, self._signed())
            self._depth -= 1
        return value

    def _atom(self) -> Number:
        kind, text = self._tokens[self._next]
        self._next += 1
        if kind == "number":
            if self._tokens[self._next][0] == "number" or self._tokens[self._next][0] == "name":
                raise NotComputable(f"Something is missing before {self._rest()!r}, such as a sign.")
            return _bounded(Fraction(text)) if abs(_exponent(text)) <= 1_000 else _too_large()
        if kind == "name":
            return self._named(text.lower())
        if text == "(":
            value = self._sum()
            self._expect(")")
            return value
        self._next -= 1
        raise NotComputable(
            f"A number is missing before {self._rest()!r}." if text else "The expression ends too early."
        )

    def _named(self, name: str) -> Number:
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name not in _FUNCTIONS:
            raise NotComputable(f"{name[:20]!r} is not known. {_KNOWN}")
        self._expect("(")
        arguments = [self._sum()]
        while self._take(","):
            arguments.append(self._sum())
        self._expect(")")
        function, least, most = _FUNCTIONS[name]
        if not least <= len(arguments) <= most:
            raise NotComputable(f"{name} does not take {len(arguments)} numbers. Write 1234.5, not 1,234.5.")
        return function(*arguments)

    def _take(self, *signs: str) -> str:
        kind, text = self._tokens[self._next]
        if kind != "sign" or text not in signs:
            return ""
        self._next += 1
        return text

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise NotComputable(
                f"{sign!r} is missing before {self._rest()!r}." if self._rest() else f"{sign!r} is missing."
            )

    def _rest(self) -> str:
        return " ".join(text for _, text in self._tokens[self._next : self._next + 5]).strip()


def _exponent(text: str) -> int:
    return int(text.lower().partition("e")[2] or 0)


def _too_large() -> Number:
    raise NotComputable("A number in it is too large or too small.")


def _size(value: Number) -> Number:
    return -value if value < 0 else value


def _decimal(value: Number) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(value.numerator) / Decimal(value.denominator)


def _bounded(value: Fraction) -> Number:
    long = max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS
    return _decimal(value) if long else value


def _either(
    exactly: Callable[[Fraction, Fraction], Fraction], roughly: Callable[[Decimal, Decimal], Decimal]
) -> Callable[[Number, Number], Number]:
    def operate(left: Number, right: Number) -> Number:
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            return _bounded(exactly(left, right))
        return roughly(_decimal(left), _decimal(right))

    return operate


def _floor_quotient(left: Decimal, right: Decimal) -> Decimal:
    return (left / right).to_integral_value(ROUND_FLOOR)


_SUMS: dict[str, Callable[[Number, Number], Number]] = {
    "+": _either(lambda left, right: left + right, lambda left, right: left + right),
    "-": _either(lambda left, right: left - right, lambda left, right: left - right),
}
_PRODUCTS: dict[str, Callable[[Number, Number], Number]] = {
    "*": _either(lambda left, right: left * right, lambda left, right: left * right),
    "/": _either(lambda left, right: left / right, lambda left, right: left / right),
    "//": _either(lambda left, right: Fraction(left // right), _floor_quotient),
    "%": _either(lambda left, right: left % right, lambda left, right: left - right * _floor_quotient(left, right)),
}


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent.numerator)
            if bits <= _MAX_BITS or abs(base) in {0, 1}:
                return Fraction(base ** (exponent.numerator if abs(base) != 1 else exponent.numerator % 2))
        elif exponent == Fraction(1, 2):
            return _square_root(base)
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    if base < 0 and not _is_whole(exponent):
        raise NotComputable("A root of a negative number is not a real number.")
    return _decimal(base) ** _decimal(exponent)


def _is_whole(value: Number) -> bool:
    return value == value.__floor__()


def _square_root(value: Number) -> Number:
    if value < 0:
        raise NotComputable("The square root of a negative number is not a real number.")
    if isinstance(value, Fraction):
        upper, lower = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if upper * upper == value.numerator and lower * lower == value.denominator:
            return Fraction(upper, lower)
    return _decimal(value).sqrt()


def _rounded(value: Number, places: Number = Fraction(0)) -> Number:
    if not _is_whole(places) or _size(places) > _MOST_ROUNDING:
        raise NotComputable(f"Numbers are rounded to a whole number of places, {_MOST_ROUNDING} at most.")
    scale = Fraction(10) ** int(places)
    # Halves go away from zero, as taught at school.
    scaled = abs(Fraction(value)) * scale
    whole = Fraction(math.floor(scaled + Fraction(1, 2))) / scale
    return _bounded(-whole if value < 0 else whole)


def _logarithm(value: Number, base: Number | None = None) -> Number:
    if value <= 0 or (base is not None and base <= 0):
        raise NotComputable("Only positive numbers have a logarithm.")
    if base is None:
        return _decimal(value).ln()
    if base == 10:
        return _decimal(value).log10()
    return _decimal(value).ln() / _decimal(base).ln()


def _circular(function: Callable[[float], float]) -> Callable[[Number], Number]:
    def apply(angle: Number) -> Number:
        if _size(angle) > 1_000_000_000:
            raise NotComputable("The angle, in radians, is too large.")
        value = function(float(angle))
        if abs(value) > 1e15:
            raise NotComputable("The tangent has no value there.")
        # What is left of rounding pi is not a result.
        if abs(value) < 1e-15 and _size(angle) > Fraction(1, 1000):
            return Decimal(0)
        return Decimal(f"{value:.15g}")

    return apply


def _whole(rounding: Callable[[Number], int]) -> Callable[[Number], Number]:
    return lambda value: _bounded(Fraction(rounding(value)))


_MANY = MAX_CHARACTERS
_CONSTANTS: dict[str, Number] = {"pi": _PI, "e": _E}
_FUNCTIONS: dict[str, tuple[Callable[..., Number], int, int]] = {
    "sqrt": (_square_root, 1, 1),
    "abs": (_size, 1, 1),
    "round": (_rounded, 1, 2),
    "floor": (_whole(math.floor), 1, 1),
    "ceil": (_whole(math.ceil), 1, 1),
    "min": (lambda *values: min(values), 1, _MANY),
    "max": (lambda *values: max(values), 1, _MANY),
    "exp": (lambda value: _decimal(value).exp(), 1, 1),
    "log": (_logarithm, 1, 2),
    "ln": (_logarithm, 1, 1),
    "log10": (lambda value: _logarithm(value, Fraction(10)), 1, 1),
    "log2": (lambda value: _logarithm(value, Fraction(2)), 1, 1),
    "sin": (_circular(math.sin), 1, 1),
    "cos": (_circular(math.cos), 1, 1),
    "tan": (_circular(math.tan), 1, 1),
}
_KNOWN = f"Known are numbers, + - * / // % ** ( ), {', '.join(_FUNCTIONS)}, pi and e."


def _shown(value: Number) -> str:
    if isinstance(value, Decimal):
        return f"≈ {_plain(value, _SHOWN_DIGITS)}"
    if value.denominator == 1:
        return str(value.numerator)
    places = _places(value.denominator)
    if places is None or places > _MOST_PLACES:
        return f"≈ {_plain(_decimal(value), _EXACT_DIGITS)}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _places(denominator: int) -> int | None:
    """Decimal places that make it exact; None where none do."""
    twos = (denominator & -denominator).bit_length() - 1
    denominator >>= twos
    fives = 0
    while denominator % 5 == 0:
        denominator //= 5
        fives += 1
    return max(twos, fives) if denominator == 1 else None


def _plain(value: Decimal, digits: int) -> str:
    rounded = Context(prec=digits, Emax=_MAX_EXPONENT, Emin=-_MAX_EXPONENT).plus(value)
    if not rounded:
        return "0"
    if -7 <= rounded.adjusted() < digits + 5:
        text = f"{rounded:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{rounded.normalize():e}"
