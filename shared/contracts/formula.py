"""Formulas over the scores of graders: `0.7 * right + 0.3 * min(form, 1)`. Nothing but arithmetic is evaluated."""

import ast
import math
from collections.abc import Callable, Collection, Mapping

LONGEST, DEEPEST = 1_000, 50  # characters; levels
_FUNCTIONS: dict[str, tuple[Callable[..., float], range]] = {  # name -> function, how many arguments
    "min": (min, range(2, 100)), "max": (max, range(2, 100)), "abs": (math.fabs, range(1, 2)), "floor": (math.floor, range(1, 2)),
    "ceil": (math.ceil, range(1, 2)), "exp": (math.exp, range(1, 2)), "sqrt": (math.sqrt, range(1, 2)),
    "log": (math.log, range(1, 2)),
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: math.pow,
}


def checked(formula: str, names: Collection[str]) -> str:
    """The formula. Raises ValueError with what is wrong in it. names: those of the graders."""
    _look(_parsed(formula), names, 0)
    return formula


def value(formula: str, scores: Mapping[str, float]) -> float:
    """In [0, 1]; what lies outside is set to the nearer end, and what cannot be computed (1 / 0) is 0."""
    try:
        result = _value(_parsed(formula), scores)
    except (ArithmeticError, ValueError):
        return 0.0
    return min(1.0, max(0.0, result)) if math.isfinite(result) else 0.0


def _parsed(formula: str) -> ast.expr:
    if len(formula) > LONGEST:
        raise ValueError(f"a formula has at most {LONGEST} characters")
    try:
        return ast.parse(formula.replace("^", "**").strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f"no formula: {error}") from None


def _look(node: ast.expr, names: Collection[str], depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"a formula has at most {DEEPEST} levels")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return
        case ast.Name(id=name):
            if name not in names:
                raise ValueError(f"{name!r} is no grader of this one; there are {', '.join(names)}")
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            _look(left, names, depth + 1)
            _look(right, names, depth + 1)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _look(operand, names, depth + 1)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            if len(arguments) not in _FUNCTIONS[name][1]:
                raise ValueError(f"{name} does not take {len(arguments)} arguments")
            for argument in arguments:
                _look(argument, names, depth + 1)
        case _:
            known = ", ".join(_FUNCTIONS)
            raise ValueError(f"{ast.unparse(node)!r}: a formula has numbers, graders' names, + - * / ^ and {known}")


def _value(node: ast.expr, scores: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return scores[name]
        case ast.BinOp(left=left, op=operator, right=right):
            return _OPERATORS[type(operator)](_value(left, scores), _value(right, scores))
        case ast.UnaryOp(op=operator, operand=operand):
            return -_value(operand, scores) if isinstance(operator, ast.USub) else _value(operand, scores)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name][0](*(_value(argument, scores) for argument in arguments))
        case _:
            raise ValueError(ast.unparse(node))
