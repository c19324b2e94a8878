"""Personal data: what is found and masked, and what looks like it and stays."""

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.data import LineError, Question
from shared.importing.personal_data import luhn, masked, masked_item, masked_row

CASES = [
    ("Write to bob.smith+x@mail.example.co.uk.", "Write to [EMAIL].", {"email": 1}),
    ("<müller@bücher.de>, a@b.de", "<[EMAIL]>, [EMAIL]", {"email": 2}),
    ("Call +49 30 901820 or +1 (415) 555-2671!", "Call [PHONE] or [PHONE]!", {"phone": 2}),
    ("Call 0049 30 901820.", "Call [PHONE].", {"phone": 1}),
    ("IBAN DE89 3704 0044 0532 0130 00 AND more", "IBAN [IBAN] AND more", {"iban": 1}),
    ("GB29NWBK60161331926819", "[IBAN]", {"iban": 1}),
    ("card 4111 1111 1111 1111, 3782-822463-10005", "card [CARD], [CARD]", {"card": 2}),
    ("from 203.0.113.7 and 2001:db8::ff00:42:8329", "from [IP_ADDRESS] and [IP_ADDRESS]", {"ip_address": 2}),
    ("SSN 123-45-6789", "SSN [SSN]", {"ssn": 1}),
]  # fmt: skip
STAYS = [
    "card 4111 1111 1111 1112",  # Luhn's digit is wrong
    "IBAN DE88 3704 0044 0532 0130 00",  # its check digits are wrong
    "order 1234567890123452",  # Luhn's digit is right, and no issuer has the prefix
    "SSN 000-45-6789, 123-00-6789",
    "127.0.0.1:8000, 1.2.3.4.5, 999.1.1.1, version 1.2.3.4",
    "@property def f(self): pkg@1.2.3 user@localhost",
    "It was 12:30:45 on 2024-11-30; std::vector<int> a::b::c::d",
    "+1 point, C++17 2024 2025, 00 12",
    "SHA 9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected", "counts"), CASES)
def test_what_is_found_is_masked_and_counted(text: str, expected: str, counts: dict[str, int]):
    counted: Counter[str] = Counter()
    assert (masked(text, counted), counted) == (expected, counts)


@pytest.mark.parametrize("text", STAYS)
def test_what_only_looks_like_it_stays(text: str):
    assert masked(text, Counter()) == text


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_masking_twice_is_masking_once(text: str):
    once = masked(text, Counter())
    again: Counter[str] = Counter()
    assert (masked(once, again), +again) == (once, Counter())


@given(st.text("0123456789", min_size=12, max_size=18))
def test_exactly_one_check_digit_is_right(digits: str):
    assert [luhn(digits + last) for last in "0123456789"].count(True) == 1


def test_every_text_that_a_model_sees_is_masked():
    secret = "bob@example.com"
    row = {
        "id": secret, "question": f"q {secret}", "context": secret, "reference": secret, "rejected": secret, "category": "mail",
        "group": secret, "source": f"by {secret}", "messages": [{"role": "user", "content": [{"type": "text", "text": secret}]}],
    }  # fmt: skip
    counts: Counter[str] = Counter()
    made = masked_row(row, counts)
    assert [name for name, value in made.items() if secret in str(value)] == ["source"]
    assert counts == {"email": 6}  # question and message are one
    assert made["id"] == made["group"] == masked_row({"id": secret}, Counter())["id"]


def test_errors_quote_nothing():
    error = LineError(line=1, code="c", message="bob@example.com is no number")
    assert masked_item(error, Counter()) == error.model_copy(update={"message": "[EMAIL] is no number"})
    clean = Question(id="a", question="What?")
    assert masked_item(clean, Counter()) is clean


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "1 " * 100_000, "+1" * 100_000, "a@" * 100_000, "1." * 100_000, "a:" * 100_000, "DE89 " * 40_000, "a@b.de " * 20_000, "+49 30 901820 " * 500]
)  # fmt: skip
def test_time_grows_with_the_length_only(text: str):
    began = time.process_time()
    masked(text, Counter())
    assert time.process_time() - began < 5
