"""The rows of the final table, measured on the test split: base, baselines, every phase with its rounds or turns."""

from collections.abc import Sequence

from services.orchestrator import selection
from services.orchestrator.nearest import Nearest
from services.orchestrator.phases.evaluate import measure
from services.orchestrator.results import Candidate, Measured, mean_of
from services.orchestrator.run import Run
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Baseline, Phase
from shared.contracts.rows import Example
from shared.contracts.steps import ModelRef


async def measure_on_test(run: Run, candidates: Sequence[Candidate]) -> list[Measured]:
    """The rows of the final table: base, the baselines a user would try first if there are references, every phase."""
    rows = [await measure(run, "base", Split.TEST, run.base)]
    train = [q for phase in run.spec.phases for q in run.shard(phase)]
    baselines = run.spec.evaluation.baselines if any(q.reference for q in train) else []
    if Baseline.FEW_SHOT in baselines:
        rows.append(await random_shots(run, train))
    if Baseline.FEW_SHOT_NEAREST in baselines:
        rows.append(await nearest_shots(run, train))
    if Baseline.SFT_REFERENCES in baselines:
        model = await train_on_references(run, train)
        rows.append(await measure(run, "sft_references", Split.TEST, model))
    for candidate in candidates:
        for name, model in run.parts[Phase(candidate.phase)]:
            rows.append(await measure(run, name, Split.TEST, model))
        rows.append(await measure(run, candidate.phase, Split.TEST, candidate.model))
    return rows


async def random_shots(run: Run, train: Sequence[Question]) -> Measured:
    """The base with examples in its prompt, drawn once for all questions, or several times and averaged."""
    draws = []
    for draw in range(run.spec.evaluation.shot_seeds):
        shots = selection.shots(train, run.spec.evaluation.shots, run.seed, draw)
        name = f"few_shot-{draw}" if draw else "few_shot"
        draws.append(await measure(run, name, Split.TEST, run.base, lambda _, shots=shots: shots))
    return mean_of("few_shot", draws)


async def nearest_shots(run: Run, train: Sequence[Question]) -> Measured:
    """The base with the train questions most like each question in its prompt."""
    index, count = Nearest(selection.seeded_order(train, run.seed, "shots")), run.spec.evaluation.shots
    return await measure(run, "few_shot_nearest", Split.TEST, run.base, lambda q: index.shots(q.text, count))


async def train_on_references(run: Run, train: Sequence[Question]) -> ModelRef:
    """The baseline without any teacher: the base fine-tuned on the references of all questions that the job used."""
    examples = [Example(id=q.id, question=q.text, completion=q.reference) for q in train if q.reference]
    params = run.training(run.spec.distill.epochs, run.spec.distill.learning_rate, model=run.base)
    model, _ = await run.fine_tune("evaluate/sft_references/train", examples, params)
    return model
