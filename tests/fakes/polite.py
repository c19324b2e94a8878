"""A strong model that knows what is polite: `python -m tests.fakes.polite`, options as tests.fakes.teacher.

Asked for a score it gives 10 to what says please, else 0; asked for a label it says polite or rude.
"""

import json
from typing import Any

from tests.fakes.openai_server import run


def answer(messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
    polite = any("please" in str(message["content"]).casefold() for message in messages)
    fields = body["response_format"]["json_schema"]["schema"]["properties"]
    result = {"result": 10 if polite else 0} if "result" in fields else {"label": "polite" if polite else "rude"}
    return json.dumps({"reasoning": "It says please." if polite else "It does not say please."} | result)


if __name__ == "__main__":
    run(answer, __doc__)
