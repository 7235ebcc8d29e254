"""Integers that may be unknown: polynomials with integer coefficients over named unknowns.

An unknown is a string, and the same string is the same number wherever it stands. A dim that a model names is
called by its name; what has none is called `?n` if it is surely not negative, `~n` if it may be. What no
polynomial can say is an unknown that spells its operands, so that computing it twice gives equal answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count

Monomial = tuple[str, ...]
"""Unknowns that are multiplied, sorted."""

_MAX_TERMS = 16
_CASE = "?case"
_fresh = count()


@dataclass(frozen=True, slots=True)
class Expr:
    """A sum of at most `_MAX_TERMS` products of unknowns; never a plain number.

    Attributes:
        terms: pairs (product of unknowns, sorted; coefficient, not 0), sorted.
    """

    terms: tuple[tuple[Monomial, int], ...]

    def __str__(self) -> str:
        return "+".join("*".join((str(factor), *names)) for names, factor in self.terms)


Number = int | Expr
"""A known or an unknown integer."""


class Computed(str):
    """An unknown that no polynomial can say: a function of two numbers, spelled with them."""

    __slots__ = ("function", "operands")
    function: Callable[[Number, Number], Number]
    operands: tuple[Number, Number]


def unknown(name: str) -> Expr:
    """Return the unknown of that name."""
    return Expr((((name,), 1),))


def is_symbol(name: str) -> bool:
    """Whether a model's name for a dim means the same dim wherever it stands: not `?`, not `unk__1`."""
    return name.isidentifier() and not name.startswith("unk__")


def fresh_dim() -> Expr:
    """Return an unknown of which nothing is known but that it is not negative."""
    return unknown(f"?{next(_fresh)}")


def fresh_number() -> Expr:
    """Return an unknown of which nothing is known."""
    return unknown(f"~{next(_fresh)}")


def name_of(number: Number) -> str | None:
    """Return the name that a model gives to this dim, or None if it is anything else."""
    if isinstance(number, int) or len(number.terms) != 1:
        return None
    names, factor = number.terms[0]
    return names[0] if factor == 1 and len(names) == 1 and is_symbol(names[0]) else None


def add(a: Number, b: Number) -> Number:
    """Return a + b."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if b == 0:
        return a
    if a == 0:
        return b
    sums = dict(_terms(a))
    for names, factor in _terms(b):
        sums[names] = sums.get(names, 0) + factor
    return _number(sums)


def multiply(a: Number, b: Number) -> Number:
    """Return a · b."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if b == 1:
        return a
    if a == 1:
        return b
    sums: dict[Monomial, int] = {}
    for left, factor in _terms(a):
        for right, other in _terms(b):
            names = tuple(sorted(left + right))
            sums[names] = sums.get(names, 0) + factor * other
    return _number(sums)


def subtract(a: Number, b: Number) -> Number:
    """Return a - b."""
    return add(a, multiply(b, -1))


def product(numbers: Iterable[Number]) -> Number:
    """Return the product of all."""
    result: Number = 1
    for number in numbers:
        result = multiply(result, number)
    return result


def quotient(a: Number, b: Number) -> Number | None:
    """Return a / b if b is one product and divides every term of a, else None; b is not 0 where it counts."""
    if isinstance(b, int) and b == 1:
        return a
    divisors = _terms(b)
    if len(divisors) != 1:
        return 1 if a == b else None
    names, factor = divisors[0]
    result: dict[Monomial, int] = {}
    for product_, coefficient in _terms(a):
        rest = _without(product_, names)
        if rest is None or coefficient % factor:
            return None
        result[rest] = coefficient // factor
    return _number(result)


def divide(a: Number, b: Number) -> Number:
    """Return a / b rounded towards 0, as ONNX divides integers."""
    if isinstance(a, int) and isinstance(b, int) and b:
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    exact = quotient(a, b) if b != 0 else None
    if exact is not None:
        return exact
    return _computed(divide, a, b) if at_least(a, 0) and at_least(b, 0) else fresh_number()


def steps(room: Number, stride: int) -> Number:
    """Return how often a window moves on, `room` / `stride` rounded down; `room` is surely not negative."""
    exact = quotient(room, stride)
    if exact is not None:
        return exact
    return room // stride if isinstance(room, int) else _computed(_steps, room, stride)


def minimum(a: Number, b: Number) -> Number:
    """Return the smaller one."""
    if at_least(subtract(a, b), 0):
        return b
    if at_least(subtract(b, a), 0):
        return a
    return _computed(minimum, a, b) if at_least(a, 0) and at_least(b, 0) else fresh_number()


def maximum(a: Number, b: Number) -> Number:
    """Return the larger one."""
    if at_least(subtract(a, b), 0):
        return a
    if at_least(subtract(b, a), 0):
        return b
    return _computed(maximum, a, b) if at_least(a, 0) or at_least(b, 0) else fresh_number()


def broadcast(a: Number, b: Number) -> Number:
    """Return the size of an axis where one of size a meets one of size b: they are equal, or one is 1."""
    if b in (a, 1) or _is_cut(b, a):
        return a
    if a == 1 or _is_cut(a, b):
        return b
    if isinstance(a, int):
        return a  # b is 1 or the same
    return b if isinstance(b, int) else _computed(broadcast, a, b)


def smaller_of(number: Number) -> tuple[Number, Number] | None:
    """Return of which two numbers this is the smaller one, if it is that."""
    if isinstance(number, int) or len(number.terms) != 1:
        return None
    names, factor = number.terms[0]
    name = names[0] if factor == 1 and len(names) == 1 else None
    return name.operands if isinstance(name, Computed) and name.function is minimum else None


def assuming_filled(number: Number, size: Number) -> Number:
    """Return a number, simplified for the case that a size is not 0."""
    leaves = _leaves(number)
    if len(leaves) != 1:
        return number
    (name,) = leaves
    if _substituted(size, name, 0) != 0:
        return number
    return _substituted(_substituted(number, name, add(unknown(_CASE), 1)), _CASE, add(unknown(name), -1))


def evaluated(number: Number, sizes: Mapping[str, int]) -> int | None:
    """Return what a number is where the unknowns have these values, None if it has others."""
    for name in _leaves(number):
        if name not in sizes:
            return None
        number = _substituted(number, name, sizes[name])
    return number if isinstance(number, int) else None


def _is_cut(a: Number, b: Number) -> bool:
    """Whether a is b cut off at some size of at least 1: where they are broadcast, both are equal."""
    operands = smaller_of(a) or ()
    return b in operands and all(each == b or at_least(each, 1) for each in operands)


def at_least(number: Number, bound: int) -> bool:
    """Whether a number is surely not below a bound."""
    if isinstance(number, int):
        return number >= bound
    least = 0
    for names, factor in number.terms:
        if not names:
            least = factor
        elif factor < 0 or any("~" in name for name in names):
            return False
    return least >= bound


def surely_equal(a: Number, b: Number) -> bool | None:
    """Return whether two numbers are equal or different, None if that depends."""
    if a == b:
        return True
    difference = subtract(a, b)
    if isinstance(difference, int) or at_least(difference, 1) or at_least(multiply(difference, -1), 1):
        return False
    return None


def _computed(function: Callable[[Number, Number], Number], a: Number, b: Number) -> Number:
    """Return what a function gives for operands that are not known well enough, or a simpler number."""
    if function in _SYMMETRIC:
        a, b = sorted((a, b), key=str)
    name = Computed(f"{function.__name__}({a},{b})")
    name.function, name.operands = function, (a, b)
    result = unknown(name)
    return _by_cases(result) or result


def _steps(room: Number, stride: Number) -> Number:
    return steps(room, stride if isinstance(stride, int) else 1)


def _by_cases(number: Expr) -> Number | None:
    """Return a polynomial in the one unknown of a number, n ≥ 0, that agrees with it at 0 and from 1 on."""
    leaves = _leaves(number)
    if len(leaves) != 1 or any(name == _CASE or "~" in name for name in leaves):
        return None
    (name,) = leaves
    above = _substituted(number, name, add(unknown(_CASE), 1))
    if any(isinstance(each, Computed) for names, _ in _terms(above) for each in names):
        return None
    candidate = _substituted(above, _CASE, add(unknown(name), -1))
    return candidate if _substituted(number, name, 0) == _substituted(candidate, name, 0) else None


def _leaves(number: Number) -> set[str]:
    found: set[str] = set()
    for names, _ in _terms(number):
        for name in names:
            if isinstance(name, Computed):
                found |= _leaves(name.operands[0]) | _leaves(name.operands[1])
            else:
                found.add(name)
    return found


def _substituted(number: Number, name: str, value: Number) -> Number:
    """Return a number with another one in place of an unknown."""
    total: Number = 0
    for names, factor in _terms(number):
        term: Number = factor
        for each in names:
            if isinstance(each, Computed):
                a, b = (_substituted(operand, name, value) for operand in each.operands)
                term = multiply(term, each.function(a, b))
            else:
                term = multiply(term, value if each == name else unknown(each))
        total = add(total, term)
    return total


def _terms(number: Number) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(number, Expr):
        return number.terms
    return (((), number),) if number else ()


def _number(sums: dict[Monomial, int]) -> Number:
    terms = tuple(sorted((names, factor) for names, factor in sums.items() if factor))
    if not terms:
        return 0
    if len(terms) == 1 and not terms[0][0]:
        return terms[0][1]
    return Expr(terms) if len(terms) <= _MAX_TERMS else fresh_number()


def _without(names: Monomial, gone: Monomial) -> Monomial | None:
    rest = list(names)
    for name in gone:
        if name not in rest:
            return None
        rest.remove(name)
    return tuple(rest)


_SYMMETRIC = (minimum, maximum, broadcast)
