"""Decoding strategies with more compute, for the chosen side of phase 3. The rejected side is greedy.

A sample that was cut off is chosen only where all were: such a pair is not learned.
"""

from collections.abc import Callable
from difflib import SequenceMatcher

from services.trainer.train.decoding import Decoded, Decoder, Sample
from shared.contracts.steps import SearchParams, Strategy

TOP_K = 50


def beam(decoder: Decoder, params: SearchParams) -> list[Decoded]:
    """The most likely answer of a search with beam_width beams (the paper's strategy)."""
    return decoder.beams(params.beam_width)


def best_of_n(decoder: Decoder, params: SearchParams) -> list[Decoded]:
    """The sample with the highest mean log-probability per token, of `samples`."""
    batches = decoder.samples(params.samples, params.temperature)
    return [decoded(max(whole(samples), key=lambda sample: sample.mean_logprob)) for samples in batches]


def self_consistency(decoder: Decoder, params: SearchParams) -> list[Decoded]:
    """The sample closest to all others, of `samples`; of equally close ones the most likely."""
    return [decoded(closest(whole(samples))) for samples in decoder.samples(params.samples, params.temperature)]


def top_k(decoder: Decoder, params: SearchParams) -> list[Decoded]:
    """One sample from the TOP_K most likely tokens at each position."""
    return [decoded(samples[0]) for samples in decoder.samples(1, params.temperature, TOP_K)]


def whole(samples: list[Sample]) -> list[Sample]:
    """Those that came to their end; all where none did."""
    return [sample for sample in samples if sample.whole] or samples


def decoded(sample: Sample) -> Decoded:
    return Decoded(sample.ids, sample.whole)


def closest(samples: list[Sample]) -> Sample:
    def agreement(sample: Sample) -> float:
        return sum(SequenceMatcher(None, sample.ids, other.ids, autojunk=False).ratio() for other in samples)

    return max(samples, key=lambda sample: (agreement(sample), sample.mean_logprob))


STRATEGIES: dict[Strategy, Callable[[Decoder, SearchParams], list[Decoded]]] = {
    Strategy.BEAM: beam,
    Strategy.BEST_OF_N: best_of_n,
    Strategy.SELF_CONSISTENCY: self_consistency,
    Strategy.TOP_K: top_k,
}
