"""Decoding strategies with more compute, for the chosen side of phase 3. The rejected side is greedy."""

from collections.abc import Callable
from difflib import SequenceMatcher

from services.trainer.train.decoding import Decoder, Sample
from shared.contracts.steps import SearchParams, Strategy

TOP_K = 50


def beam(decoder: Decoder, params: SearchParams) -> list[list[int]]:
    """The most likely answer of a search with beam_width beams (the paper's strategy)."""
    return decoder.beams(params.beam_width)


def best_of_n(decoder: Decoder, params: SearchParams) -> list[list[int]]:
    """The sample with the highest mean log-probability per token, of `samples`."""
    batches = decoder.samples(params.samples, params.temperature)
    return [max(samples, key=lambda sample: sample.mean_logprob).ids for samples in batches]


def self_consistency(decoder: Decoder, params: SearchParams) -> list[list[int]]:
    """The sample closest to all others, of `samples`; of equally close ones the most likely."""
    return [closest(samples) for samples in decoder.samples(params.samples, params.temperature)]


def top_k(decoder: Decoder, params: SearchParams) -> list[list[int]]:
    """One sample from the TOP_K most likely tokens at each position."""
    return [samples[0].ids for samples in decoder.samples(1, params.temperature, TOP_K)]


def closest(samples: list[Sample]) -> list[int]:
    def agreement(sample: Sample) -> float:
        return sum(SequenceMatcher(None, sample.ids, other.ids, autojunk=False).ratio() for other in samples)

    return max(samples, key=lambda sample: (agreement(sample), sample.mean_logprob)).ids


STRATEGIES: dict[Strategy, Callable[[Decoder, SearchParams], list[list[int]]]] = {
    Strategy.BEAM: beam,
    Strategy.BEST_OF_N: best_of_n,
    Strategy.SELF_CONSISTENCY: self_consistency,
    Strategy.TOP_K: top_k,
}
