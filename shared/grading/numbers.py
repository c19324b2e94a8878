"""Grading numbers: equal within a tolerance, whatever separators, units or words stand around them."""

import re
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from shared.contracts.grader_kinds import NumberGrader

# 1,234,567.8  1 234,5  1'234  .5  -3e-4  3/4; a sign counts where no letter or digit stands before it
_SPACES = "\u0020\u00a0\u2009\u202f"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>[-+\u2212]?)(?P<digits>\d{{1,3}}(?:[,.'\u2019{_SPACES}]\d{{3}})+(?:[.,]\d+)?|\d+(?:[.,]\d+)?|\.\d+)"
    r"(?:[eE](?P<exponent>[-+]?\d{1,4}))?(?:\s*/\s*(?P<below>\d+))?"
    r"\s*(?P<unit>%|\u2030|\u00b0[CF]?|(?:[^\W\d_]{1,2}/)?[^\W\d_]+\d?(?:/[^\W\d_]{1,4}\d?)?(?!\w))?"
)
# Words behind a number that are units; any other word is what is counted, which may be said in many ways.
_UNITS = {
    name: symbol
    for symbol, names in {
        "mm": "millimeter millimetre", "cm": "centimeter centimetre", "m": "meter metre", "km": "kilometer kilometre",
        "in": "inch inche", "ft": "foot feet", "yd": "yard", "mi": "mile", "mg": "milligram", "g": "gram gramme",
        "kg": "kilogram kilo", "t": "tonne ton", "lb": "pound", "oz": "ounce", "ml": "milliliter millilitre",
        "l": "liter litre", "ms": "millisecond", "s": "second sec", "min": "minute", "h": "hour hr", "d": "day",
        "week": "week", "month": "month", "year": "year yr", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte",
        "tb": "terabyte", "%": "percent pct", "$": "dollar usd", "\u20ac": "euro eur", "\u00a3": "gbp", "km/h": "kmh kph",
        "mph": "mph", "\u00b0c": "celsius \u00b0C", "\u00b0f": "fahrenheit \u00b0F", "w": "watt", "kw": "kilowatt", "v": "volt",
        "a": "ampere amp", "j": "joule", "n": "newton", "hz": "hertz",
    }.items()
    for name in (symbol, *names.split())
}  # fmt: skip
_CURRENCY = re.compile(r"[$\u20ac\u00a3\u00a5\u20b9\u20bd]\s*$")
_BEFORE = 8  # signs in front of a number among which its currency is looked for
MOST_DIGITS = 400  # of one number: no answer needs more, and exact arithmetic on more is slow


class Quantity(NamedTuple):
    """A number and what it counts; unit: "" where none is written."""

    number: Decimal
    unit: str


def quantities(text: str, decimal: str = ".") -> list[Quantity]:
    """All numbers in a text, in order. decimal: the sign before the fraction, where a text can be read both ways."""
    read = (_quantity(match, text, decimal) for match in _NUMBER.finditer(text))
    return [quantity for quantity in read if quantity is not None]


def last_quantity(text: str, decimal: str = ".") -> Quantity | None:
    """The last number of a text, which is the result where a text derives one; None where it has none."""
    return next(reversed(quantities(text, decimal)), None)


def score(spec: NumberGrader, answer: str, reference: str) -> float:
    """1 where the last number of the answer is the reference's within the tolerance, and no other unit stands behind it."""
    given, expected = last_quantity(answer, spec.decimal), last_quantity(reference, spec.decimal)
    return float(given is not None and expected is not None and same(spec, given, expected))


def same(spec: NumberGrader, given: Quantity, expected: Quantity) -> bool:
    """Whether the numbers differ by no more than the tolerance and the units do not contradict each other."""
    if spec.unit and given.unit and expected.unit and given.unit != expected.unit:
        return False
    allowed = max(Decimal(str(spec.absolute)), Decimal(str(spec.relative)) * abs(expected.number))
    return abs(given.number - expected.number) <= allowed


def _quantity(match: re.Match[str], text: str, decimal: str) -> Quantity | None:
    digits = match["digits"]
    if len(digits) > MOST_DIGITS:
        return None
    try:
        number = Decimal(_plain(digits, decimal)) * (Decimal(10) ** int(match["exponent"] or 0))
        if match["below"]:
            number /= Decimal(match["below"])
    except (InvalidOperation, ZeroDivisionError, OverflowError):
        return None
    if match["sign"] in ("-", "\u2212"):
        number = -number
    currency = _CURRENCY.search(text, max(0, match.start() - _BEFORE), match.start())
    return Quantity(number, _unit(match["unit"] or (currency.group().strip() if currency else "")))


def _unit(word: str) -> str:
    """The symbol of a unit; "" for a word that is none."""
    word = word.casefold()
    return _UNITS.get(word) or _UNITS.get(word.removesuffix("s")) or ("" if word.isalpha() else word)


def _plain(digits: str, decimal: str) -> str:
    """Digits as Python reads them: without separators of thousands, with a point before the fraction."""
    digits = re.sub(rf"['\u2019{_SPACES}]", "", digits)
    points = [sign for sign in digits if sign in ".,"]
    if not points:
        return digits
    if len(set(points)) == 2 or len(points) == 1:
        last = points[-1]
        thousands = len(points) == 1 and last != decimal and re.fullmatch(r"\d{1,3}[.,]\d{3}", digits)
        if not thousands:
            whole, _, fraction = digits.rpartition(last)
            return f"{re.sub('[.,]', '', whole) or '0'}.{fraction}"
    return re.sub("[.,]", "", digits)
