"""The two parts of a dev split: the same for a question in every job, and none where one would be too small."""

from shared.evaluation.parts import CHOICE_LEAST, CHOICE_SHARE, REST_LEAST, dev_parts


def groups(n: int, each: int = 1) -> list[str]:
    return [f"group {place // each}" for place in range(n)]


def test_a_part_is_about_its_share_and_no_question_is_in_both():
    parts = dev_parts(groups(3000))
    assert parts is not None
    assert sorted([*parts.choice, *parts.rest]) == list(range(3000))
    assert abs(len(parts.choice) / 3000 - CHOICE_SHARE) < 0.03


def test_a_question_stays_where_it_was_whatever_stands_beside_it():
    before, after = dev_parts(groups(300)), dev_parts([*groups(300), *(f"new {n}" for n in range(300))][::-1])
    assert before is not None
    assert after is not None
    assert {599 - place for place in after.choice if place > 299} == set(before.choice)


def test_questions_of_one_group_stand_together():
    names = groups(600, each=5)
    parts = dev_parts(names)
    assert parts is not None
    assert not {names[place] for place in parts.choice} & {names[place] for place in parts.rest}


def test_too_few_questions_are_not_parted():
    assert dev_parts(groups(CHOICE_LEAST + REST_LEAST - 1)) is None
    assert dev_parts(["one"] * 500) is None
