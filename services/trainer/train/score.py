"""The student's NLL of given answers, for the paper's first open question.

The same prompt ids and answer tokens as in training, so a row's NLL is the loss that SFT on it would begin with.
"""

import json

from transformers import PreTrainedModel

from services.trainer.spec import Metrics, Spec
from services.trainer.train import data
from services.trainer.train.logprobs import token_logprobs
from services.trainer.train.model import load_student, load_tokenizer
from services.trainer.train.progress import Reporter
from shared.contracts.rows import Example, Likelihood
from shared.contracts.steps import ScoreParams


def score(spec: Spec, reporter: Reporter) -> Metrics:
    """Rows are Example. Writes rows.json with a Likelihood per row that fits."""
    params = ScoreParams.model_validate(spec.params)
    examples = [Example.model_validate(row) for row in spec.rows]
    tokenizer, model = load_tokenizer(spec.base, params.model.profile), load_student(spec)
    limit = data.longest_text(model.config, params.max_length)
    likelihoods = []
    for number, example in enumerate(examples, start=1):
        prompt = data.prompt_ids(tokenizer, example)
        answer = data.completion_ids(tokenizer, example.completion, params.model.profile, example)
        if len(prompt) + len(answer) <= limit:
            likelihoods.append(Likelihood(id=example.id, nll=mean_nll(model, prompt, answer), tokens=len(answer)))
        reporter.tick(number, len(examples))
    spec.output.mkdir(parents=True, exist_ok=True)
    (spec.output / "rows.json").write_text(json.dumps([row.model_dump(mode="json") for row in likelihoods]))
    return {"rows": len(likelihoods), "dropped_too_long": len(examples) - len(likelihoods)}


def mean_nll(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> float:
    """Mean negative log-likelihood of the answer's tokens (end token included) after the prompt, in nats."""
    ids = prompt + answer
    return -float(token_logprobs(model, ids, range(len(prompt), len(ids))).mean())
