"""Ways to spend more compute on an answer (phase 3's chosen side), behind one interface. Greedy is the other side."""

from collections.abc import Callable
from difflib import SequenceMatcher

from services.trainer.train.decoding import Decoder, Sample
from shared.contracts.steps import SearchParams, Strategy

TOP_K = 50


def beam(decoder: Decoder, params: SearchParams) -> list[list[int]]:
    """The most likely answer that a search of beam_width beams finds (the paper's way)."""
    return decoder.beams(params.beam_width)


def best_of_n(decoder: Decoder, params: SearchParams) -> list[list[int]]:
    """Of `samples` samples the one with the highest mean log-probability per token."""
    drawn = decoder.samples(params.samples, params.temperature)
    return [max(samples, key=lambda sample: sample.mean_logprob).ids for samples in drawn]


def self_consistency(decoder: Decoder, params: SearchParams) -> list[list[int]]:
    """Of `samples` samples the one that is closest to all the others; of equals the likelier one."""
    return [closest(samples) for samples in decoder.samples(params.samples, params.temperature)]


def top_k(decoder: Decoder, params: SearchParams) -> list[list[int]]:
    """One sample of the TOP_K likeliest tokens at each place."""
    return [samples[0].ids for samples in decoder.samples(1, params.temperature, TOP_K)]


def closest(samples: list[Sample]) -> list[int]:
    def agreement(one: Sample) -> float:
        return sum(SequenceMatcher(None, one.ids, other.ids, autojunk=False).ratio() for other in samples)

    return max(samples, key=lambda sample: (agreement(sample), sample.mean_logprob)).ids


STRATEGIES: dict[Strategy, Callable[[Decoder, SearchParams], list[list[int]]]] = {
    Strategy.BEAM: beam,
    Strategy.BEST_OF_N: best_of_n,
    Strategy.SELF_CONSISTENCY: self_consistency,
    Strategy.TOP_K: top_k,
}
