"""DSPy: programs over a language model, with each of its adapters."""

from typing import Literal

import dspy
import litellm
from abilities import KEY, MODEL, QUESTION, SHORT, URL, ability, run, told

# as DSPy would know of a model in its own list: JSONAdapter asks for a schema then
litellm.register_model(
    {f"openai/{MODEL}": {"litellm_provider": "openai", "mode": "chat", "supports_response_schema": True}}
)
OURS = {"api_base": URL, "api_key": KEY, "cache": False, "num_retries": 0}
model = dspy.LM(f"openai/{MODEL}", **OURS, max_tokens=SHORT)
longer = dspy.LM(f"openai/{MODEL}", **OURS, max_tokens=200)


class Place(dspy.Signature):
    """Name the city of the question."""

    question: str = dspy.InputField()
    city: Literal["Rome", "Oslo"] = dspy.OutputField()
    large: bool = dspy.OutputField()


@ability("chat")
def _():
    told(model(QUESTION)[0])
    assert len(model(QUESTION, n=2, temperature=1.0)) == 2


@ability("schema")
def _():
    with dspy.context(lm=longer, adapter=dspy.JSONAdapter()):
        assert dspy.Predict(Place)(question=QUESTION).city in ("Rome", "Oslo")


@ability("responses")
def _():
    answer = dspy.LM(f"openai/{MODEL}", **OURS, max_tokens=SHORT, model_type="responses")(QUESTION)[0]
    told(answer["text"] if isinstance(answer, dict) else answer)


@ability("errors")
def _():
    try:
        dspy.LM("openai/nobody", **OURS)(QUESTION)
    except Exception as error:
        assert "nobody" in str(error), error
        return
    raise AssertionError("no error")


if __name__ == "__main__":
    run()
