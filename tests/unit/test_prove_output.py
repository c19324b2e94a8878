"""What the output of schemathesis means to `make prove`."""

from tests.prove.__main__ import not_generated

LIMIT = """
==================================== ERRORS ====================================
_______________________ POST /v1/distillation/jobs/check _______________________
Schema Error

Cannot generate an array with 1 demanded elements

=================================== SUMMARY ====================================

Errors:
  x Schema Error: 1

Test cases:
  58390 generated, 58390 passed, 246 skipped
"""


def test_a_limit_of_the_generator_is_told_and_is_no_failure():
    assert not_generated(LIMIT) == ["POST /v1/distillation/jobs/check"]


def test_everything_else_fails():
    assert not_generated("= FAILURES =" + LIMIT) is None
    assert not_generated(LIMIT.replace("  x Schema Error: 1\n", "  x Schema Error: 1\n  x Network Error: 1\n")) is None
    assert not_generated("killed") is None
