"""The formula of a multi grader: numbers, scores by name, + - * / ^ and a few functions."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping
from typing import cast

_MAX_CHARACTERS = 1000
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: math.pow,
}
_FUNCTIONS: dict[str, tuple[Callable[..., float], int | None]] = {
    # Each takes numbers, so that one number alone is taken as well.
    "min": (lambda *numbers: min(numbers), None),
    "max": (lambda *numbers: max(numbers), None),
    "abs": (math.fabs, 1),
    "floor": (math.floor, 1),
    "ceil": (math.ceil, 1),
    "exp": (math.exp, 1),
    "sqrt": (math.sqrt, 1),
    "log": (math.log, 1),
}


class FormulaError(Exception):
    """The formula cannot be read or has no value; the message says why."""


def check_formula(formula: str, names: Iterable[str]) -> None:
    """Raises FormulaError when it is no formula over these names (each also known as `<name>_score`)."""
    _check(_parse(formula), {alias for name in names for alias in (name, f"{name}_score")})


def evaluate(formula: str, scores: Mapping[str, float]) -> float:
    """The formula's value. Raises FormulaError, also where it divides by zero or leaves the real numbers."""
    tree = _parse(formula)
    known = {alias: score for name, score in scores.items() for alias in (name, f"{name}_score")}
    _check(tree, set(known))
    try:
        value = float(_value(tree, known))
    except (ArithmeticError, ValueError) as error:
        raise FormulaError(f"it has no value for these scores: {error}") from error
    if not math.isfinite(value):
        raise FormulaError("its value is not finite for these scores")
    return value


def _parse(formula: str) -> ast.expr:
    if len(formula) > _MAX_CHARACTERS:
        raise FormulaError(f"at most {_MAX_CHARACTERS} characters are taken")
    try:
        # ^ is a power here; Python would read it as an operation on bits, of another precedence.
        return ast.parse(formula.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise FormulaError(f"it cannot be read: {error}") from error


def _check(node: ast.expr, names: set[str]) -> None:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return
        case ast.Name(id=name):
            if name not in names:
                raise FormulaError(f"'{name}' is no grader; known are {', '.join(sorted(names))}")
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            _check(operand, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            _check(left, names)
            _check(right, names)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            wanted = _FUNCTIONS[name][1]
            if not args or (wanted is not None and len(args) != wanted):
                raise FormulaError(f"{name} takes {wanted or 'one or more'} argument(s), not {len(args)}")
            for arg in args:
                _check(arg, names)
        case _:
            raise FormulaError(f"'{ast.unparse(node)}' is not allowed; use + - * / ^ and {', '.join(_FUNCTIONS)}")


def _value(node: ast.expr, scores: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=value):
            return float(cast("float", value))
        case ast.Name(id=name):
            return scores[name]
        case ast.UnaryOp(op=op, operand=operand):
            return -_value(operand, scores) if isinstance(op, ast.USub) else _value(operand, scores)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, scores), _value(right, scores))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name][0](*(_value(arg, scores) for arg in args))
        case _:
            raise FormulaError(f"'{ast.unparse(node)}' is not allowed")
