"""The short form of `make prove`; fuzzing alone, because the other phases have a size of their own."""

from tests.prove.__main__ import prove


def test_made_up_requests_find_nothing_that_the_document_does_not_say():
    result = prove(cases=300, seed=7, phases="fuzzing")
    assert not result["failures"], result["failures"]
    assert result["cases"] >= 300
    assert int(result["statuses"].get("200", 0)) > 30, f"hardly any request got through: {result['statuses']}"
