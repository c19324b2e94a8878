"""What asking for generated questions comes to, before anything is asked: ranges by the settings alone."""

from math import ceil

from shared.contracts.estimate import Price, Range, Spend
from shared.contracts.imports import GenerateOptions
from shared.plan.estimate import BYTES_PER_TOKEN, LIKELY_BYTES

RULES = 700  # bytes of a request beside what follows
KNOWN = 30 * 100  # bytes of the questions that are not to be repeated
MATERIAL = 1800  # bytes of a passage
QUESTION = (10, 40)  # tokens of a question in a reply
SURPLUS = (1.0, 2.5)  # questions written per question that is kept


def generation_spend(source: GenerateOptions, has_material: bool, price: Price | None) -> Spend:
    """low: every reply is of use; high: replies repeat each other, and every cell is asked again. usd None: the price is not known."""
    cells = [cell.questions for cell in source.coverage or []]
    if not cells:
        number = min(source.count, (len(source.topics) or source.topic_count) * len(source.levels))
        cells = [ceil(source.count / number)] * number
    asks_topics = source.coverage is None and not source.topics
    calls = Range(
        low=asks_topics + sum(ceil(cell / source.per_call) for cell in cells),
        high=3 * asks_topics + sum(ceil(SURPLUS[1] * cell / source.per_call) + 1 for cell in cells),
    )
    fixed = RULES + len(source.domain.encode()) + (MATERIAL if has_material or source.labels else 0)
    read = Range(low=calls.low * fixed / BYTES_PER_TOKEN, high=calls.high * (fixed + KNOWN) / LIKELY_BYTES)
    wanted = sum(cells)
    said = Range(
        low=wanted * SURPLUS[0] * QUESTION[0],
        high=min(calls.high * source.max_tokens, wanted * SURPLUS[1] * QUESTION[1] + calls.high * 50),
        at_most=calls.high * source.max_tokens,
    )
    usd = None
    if price is not None:
        usd = Range(low=price.usd(read.low, said.low), high=price.usd(read.high, said.high))
    return Spend(calls=calls, input_tokens=read, output_tokens=said, usd=usd)
