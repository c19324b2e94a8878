"""Personal data in texts: found by its form, checked where the form has a check, replaced by the name of its kind, and counted.

Found are e-mail addresses, phone numbers with a country code, IBANs (with their check digits), payment cards (with their issuer's
prefix and Luhn's digit), IP addresses and US social security numbers. Names and postal addresses have no form and are not found.
"""

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from shared.contracts.data import LineError, Question

EMAIL, PHONE, IBAN, CARD, IP, SSN = "email", "phone", "iban", "card", "ip_address", "ssn"
Span = tuple[int, int, str]

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?: ?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d-])")
_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}"
)
_SSN = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\d-])")
_IP = re.compile(
    r"(?<![\w.])(?<!version )(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}(?![\w:])"
)
_MAYBE_PHONE = re.compile(r"(?:\+|(?<!\d)00)[\d(][\d\s().\-/\u00a0]{5,24}\d")
IBAN_LENGTHS = {
    code: int(length)
    for length, codes in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL SD", "19": "MK SI", "20": "AT BA EE KZ LT LU XK", "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA", "23": "AE GI IL IQ TL OM", "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM", "28": "AL AZ BY CY DO GT HU LB NI PL SV",
        "29": "BR EG PS QA UA", "30": "JO KW MU", "31": "MT SC", "32": "LC", "33": "RU",
    }.items()
    for code in codes.split()
}  # fmt: skip
LABEL_FIELDS = ("id", "group", "category")  # names of rows: one name for one value
KEPT_FIELDS = (*LABEL_FIELDS, "source", "split")  # all others are texts that models see


def spans(text: str) -> list[Span]:
    """(begin, end, kind) of what is found, in order, without overlap: what one kind has taken, no later one sees."""
    taken: list[Span] = []
    for find in (_emails, _ibans, _cards, _ssns, _phones, _addresses):
        hidden = list(find(text))
        taken += hidden
        text = _blanked(text, hidden) if hidden else text
    return sorted(taken)


def _blanked(text: str, hidden: list[Span]) -> str:
    parts, at = [], 0
    for begin, end, _ in hidden:
        parts += [text[at:begin], "\x00" * (end - begin)]
        at = end
    return "".join([*parts, text[at:]])


def _emails(text: str) -> Iterator[Span]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield *match.span(), EMAIL


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        length = IBAN_LENGTHS.get(match.group()[:2].upper(), 0)
        end, seen = match.start(), 0
        while end < match.end() and seen < length:
            seen += text[end] != " "
            end += 1
        if seen == length and length and _is_iban(text[match.start() : end]):
            yield match.start(), end, IBAN


def _is_iban(text: str) -> bool:
    compact = text.replace(" ", "").upper()
    return int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])) % 97 == 1


def _cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if _ISSUERS.fullmatch(digits) and luhn(digits):
            yield *match.span(), CARD


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others."""
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _ssns(text: str) -> Iterator[Span]:
    for match in _SSN.finditer(text):
        yield *match.span(), SSN


def _phones(text: str) -> Iterator[Span]:
    """By phonenumbers, which knows the numbers of each country; where it is not installed, by their form alone."""
    matches = list(_MAYBE_PHONE.finditer(text))
    if not matches:
        return
    try:
        import phonenumbers  # here: a large module that most runs never need
    except ImportError:
        for match in matches:
            if 8 <= sum(sign.isdigit() for sign in match.group()) <= 15:
                yield *match.span(), PHONE
        return
    for match in matches:
        digits = re.sub(r"[^\d+]", "", match.group())
        written = match.group() if digits.startswith("+") else "+" + match.group()[2:]
        shift = match.start() - (0 if digits.startswith("+") else -1)
        for number in phonenumbers.PhoneNumberMatcher(written, None):
            begin = match.start() if number.start == 0 else shift + number.start
            yield begin, shift + number.end, PHONE


def _addresses(text: str) -> Iterator[Span]:
    for match in _IP.finditer(text):
        try:
            address = ipaddress.ip_address(match.group())
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified):
            yield *match.span(), IP


def masked(text: str, counts: Counter[str]) -> str:
    """The text with [EMAIL], [PHONE], ... in place of what was found, which is counted by kind."""
    parts, at = [], 0
    for begin, end, kind in spans(text):
        counts[kind] += 1
        parts += [text[at:begin], f"[{kind.upper()}]"]
        at = end
    return "".join([*parts, text[at:]])


def masked_value(value: Any, counts: Counter[str]) -> Any:
    """All texts inside lists and objects masked, names of fields aside."""
    if isinstance(value, str):
        return masked(value, counts)
    if isinstance(value, list | tuple):
        return [masked_value(item, counts) for item in value]
    if isinstance(value, dict):
        return {name: masked_value(item, counts) for name, item in value.items()}
    return value


def masked_row(row: dict[str, Any], counts: Counter[str]) -> dict[str, Any]:
    """A row of a dataset. An id, group or category with personal data becomes a name of its own, the same for the same value.
    `source`, which no model sees, stays: it is the attribution."""
    made = dict(row)
    for name in made.keys() - set(KEPT_FIELDS):
        twice = name == "question" and made.get("messages")  # it is the last message of the user too
        made[name] = masked_value(made[name], Counter() if twice else counts)
    for name in LABEL_FIELDS:
        if isinstance(made.get(name), str):
            made[name] = masked_name(made[name], counts)
    return made


def masked_name(name: str, counts: Counter[str]) -> str:
    """A name that holds personal data as a name of its own, the same for the same value; any other one itself."""
    hidden = spans(name)
    if not hidden:
        return name
    counts[hidden[0][2]] += 1
    return hashed_name(name)


def hashed_name(name: str) -> str:
    return f"masked-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def masked_item(item: Question | LineError, counts: Counter[str]) -> Question | LineError:
    """A parsed row; of a bad one its message, which may quote it."""
    if isinstance(item, LineError):
        return item.model_copy(update={"message": masked(item.message, Counter())})
    return masked_question(item, counts)


def masked_question(item: Question, counts: Counter[str]) -> Question:
    given = item.model_dump()
    made = masked_row(given, counts)
    changed = {name: made[name] for name in given if made[name] != given[name]}
    return Question.model_validate(given | changed) if changed else item
