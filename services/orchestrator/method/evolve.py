"""Phase 3, self-evolution (paper section 3.3): no call to the strong model.

High-compute decoding (beam search, or another strategy) against low-compute decoding (greedy) of one and the same student; a preference
loss anchored at the incoming student teaches it to prefer the first. Both sides come from one engine, dtype and
prompt ids, else the pairs would show numerical noise instead of a better search. Where the job's own file brings the pairs
(`evolve.pairs`), they take the place of the search.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.orchestrator.method.context import Run
from shared.contracts.data import Question
from shared.contracts.distillation import Phase
from shared.contracts.rows import PreferencePair, asked
from shared.contracts.steps import ModelRef, SearchParams, StepKind

MOST = 64  # beams or samples, however often a turn multiplies them


async def evolve(run: Run) -> ModelRef:
    """Returns the student after the last turn; the incoming one when both decodings always agree."""
    settings = run.spec.evolve
    questions = run.shard(Phase.EVOLVE)
    from_file = settings.pairs == "file"
    turns = []
    for turn in range(1, settings.turns + 1):
        found, figures = (pairs_of(questions), {}) if from_file else await search(run, turn, questions)
        pairs, dropped = distinct_pairs(found)
        record = {
            "strategy": "file" if from_file else settings.strategy.value,
            "questions": len(questions),
            "pairs": len(pairs),
            "dropped": dropped,
            "search": figures,
        }
        turns.append(record)
        await run.say(f"evolve: turn {turn}: {len(pairs)} pairs differ", type="metrics", turn=turn, **record)
        if not pairs:
            break
        params = run.training(
            settings.epochs, settings.learning_rate, beta=settings.beta, sft_weight=settings.sft_weight
        )
        trained = await run.step(f"evolve/{turn}/train", StepKind.DPO, params, pairs)
        record["training"] = trained.metrics
        before, run.student = run.student, run.student.trained(params.method, trained.trained)
        if before.tuned in run.reasoning:
            run.reasoning.add(run.student.tuned)
        if settings.turns > 1:
            run.parts[Phase.EVOLVE].append((f"evolve-{turn}", run.student))
    run.records["evolve"] = {"turns": turns}
    return run.student


async def search(run: Run, turn: int, questions: Sequence[Question]) -> tuple[list[PreferencePair], dict[str, Any]]:
    """Both decodings' answers of the student as it is now, and the search's figures. Each turn may spend more than the one before."""
    settings = run.spec.evolve
    params = SearchParams(
        model=run.student,
        strategy=settings.strategy,
        beam_width=min(MOST, settings.beam_width * settings.growth ** (turn - 1)),
        samples=min(MOST, settings.samples * settings.growth ** (turn - 1)),
        temperature=settings.temperature,
        max_new_tokens=run.spec.answer_tokens,
        batch_size=settings.search_batch,
        seed=run.seed,
    )
    found = await run.step(f"evolve/{turn}/search", StepKind.SEARCH, params, [asked(q) for q in questions])
    return [PreferencePair(**row) for row in found.rows], found.metrics


def pairs_of(questions: Sequence[Question]) -> list[PreferencePair]:
    """What the records themselves say is better and worse."""
    return [
        PreferencePair(id=q.id, question=q.text, chosen=q.reference, rejected=q.rejected)
        for q in questions
        if q.reference and q.rejected
    ]


def distinct_pairs(pairs: Sequence[PreferencePair]) -> tuple[list[PreferencePair], dict[str, int]]:
    """Pairs that can teach something: both sides there and different."""
    kept, dropped = [], Counter()
    for pair in pairs:
        if not pair.chosen.strip() or not pair.rejected.strip():
            dropped["empty"] += 1
        elif pair.chosen.strip() == pair.rejected.strip():
            dropped["identical"] += 1
        else:
            kept.append(pair)
    return kept, dict(dropped)
