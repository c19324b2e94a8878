"""Several ways to decode the same prompts with one model: the prompts are prefilled once, each search copies that cache.

A model with states beside its keys and values is not shared so: each search computes the prompts again.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from services.trainer.train import architecture
from services.trainer.train.data import end_ids
from shared.contracts.prompt_profile import PLAIN, PromptProfile


class Decoded(NamedTuple):
    """Token ids without the end token. whole: there was one; else the text was cut off at max_new_tokens."""

    ids: list[int]
    whole: bool


class Sample(NamedTuple):
    """As `Decoded`, and the mean log-probability of its tokens, the end token included, in nats."""

    ids: list[int]
    mean_logprob: float
    whole: bool = True


class Decoder:
    """A batch of prompts, padded on the left, ready to be answered. Use under torch.inference_mode()."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        profile: PromptProfile = PLAIN,
    ):
        self.model = model
        self.max_new_tokens = max_new_tokens
        self.pad = cast(int, tokenizer.pad_token_id)
        self.ends = end_tokens(model, tokenizer, profile)
        self.longest = max(map(len, prompts))
        ids = [[self.pad] * (self.longest - len(p)) + p for p in prompts]
        mask = [[0] * (self.longest - len(p)) + [1] * len(p) for p in prompts]
        self.ids, self.mask = torch.tensor(ids, device=model.device), torch.tensor(mask, device=model.device)
        self.prefilled = None if architecture.is_hybrid(model) else self._prefill()

    def _prefill(self) -> DynamicCache:
        cache = DynamicCache(config=self.model.config)
        self.model(
            input_ids=self.ids[:, :-1],
            attention_mask=self.mask[:, :-1],
            position_ids=(self.mask.cumsum(-1) - 1).clamp(min=0)[:, :-1],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cache

    def beams(self, width: int) -> list[Decoded]:
        """Beam search; width 1 is greedy."""
        return [self._until_end(row) for row in self._generate(width, num_beams=width, do_sample=False)]

    def samples(self, count: int, temperature: float, top_k: int = 0) -> list[list[Sample]]:
        """count samples of each prompt, with their likelihood under the model itself (temperature 1, nothing cut)."""
        likelihood = LikelihoodProcessor(self.ends)
        rows = self._generate(
            count,
            [likelihood],
            do_sample=True,
            num_return_sequences=count,
            temperature=temperature,
            top_k=top_k,
            top_p=1.0,
        )
        decoded = map(self._until_end, rows)
        drawn = [Sample(one.ids, mean, one.whole) for one, mean in zip(decoded, likelihood.means(rows), strict=True)]
        return [drawn[start : start + count] for start in range(0, len(drawn), count)]

    def _generate(self, copies: int, processors: Sequence[LogitsProcessor] = (), **settings: Any) -> torch.Tensor:
        """Prompt and completion ids, shape (prompts x returned, longest + new)."""
        cache = copy.deepcopy(self.prefilled)
        if cache is not None:
            cache.batch_repeat_interleave(copies)
        config = GenerationConfig(
            max_new_tokens=self.max_new_tokens, eos_token_id=self.ends, pad_token_id=self.pad, **settings
        )
        return cast(Any, self.model).generate(
            input_ids=self.ids,
            attention_mask=self.mask,
            **({} if cache is None else {"past_key_values": cache}),
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
        )

    def _until_end(self, row: torch.Tensor) -> Decoded:
        """The padding of a shorter row follows its end token, so a row without one was generated to the limit."""
        ids = row[self.longest :].tolist()
        end = next((place for place, token in enumerate(ids) if token in self.ends), None)
        return Decoded(ids[:end], end is not None)


class LikelihoodProcessor(LogitsProcessor):
    """Sums the log-probabilities of the generated tokens during generation; leaves the scores unchanged.

    transformers calls such processors before temperature and top-k, so these are the model's own probabilities.
    """

    def __init__(self, ends: list[int]):
        self.ends = ends
        self.total = self.tokens = torch.zeros(0)
        self.open: torch.Tensor | None = None  # mask of the rows that have not ended
        self.last = torch.zeros(0)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.open is None:
            self.open = torch.ones(len(input_ids), dtype=torch.bool, device=scores.device)
            self.total = self.tokens = torch.zeros(len(input_ids), device=scores.device)
        else:
            self._add(input_ids[:, -1])
        self.last = scores.log_softmax(-1)
        return scores

    def _add(self, tokens: torch.Tensor) -> None:
        assert self.open is not None
        self.total = self.total + self.open * self.last.gather(1, tokens[:, None])[:, 0]
        self.tokens = self.tokens + self.open
        self.open = self.open & ~torch.isin(tokens, torch.tensor(self.ends, device=tokens.device))

    def means(self, rows: torch.Tensor) -> list[float]:
        """Mean log-probability per row. Call it once with the generated rows: it adds their last token."""
        self._add(rows[:, -1])
        return (self.total / self.tokens).tolist()


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, profile: PromptProfile) -> list[int]:
    """All tokens that end a turn, as in the engine: the tokenizer's, the template's and the model's."""
    own: Any = model.generation_config.eos_token_id if model.generation_config else None
    model_ends = {token for token in (own if isinstance(own, list) else [own]) if token is not None}
    return sorted(end_ids(tokenizer, profile) | model_ends)
