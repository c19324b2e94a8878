"""`Students`: how one job's students are asked and trained."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.orchestrator.method.durable import Step
from services.orchestrator.method.selection import near_duplicates
from shared.contracts.data import Question
from shared.contracts.distillation import Distillation, Hyperparameters
from shared.contracts.phase_records import TrainingFigures
from shared.contracts.rows import Example, Guideline, PreferencePair, StudentPrompt, TeacherResponse, asked
from shared.contracts.step_key import StepKey
from shared.contracts.steps import (
    ALL_WEIGHTS,
    AdapterConfig,
    Method,
    ModelRef,
    Sampling,
    StepKind,
    StudentParams,
    TrainParams,
    Wire,
)


@dataclass(frozen=True)
class Students:
    """shows_calls: the student's chat template shows calls of tools."""

    spec: Distillation
    hyperparameters: Hyperparameters
    seed: int
    shows_calls: bool
    step: Step

    def prompt(self, question: Question, **shown: Any) -> StudentPrompt:
        """What a student is asked. shown: shots, or the previous attempt and its critique."""
        return StudentPrompt(**asked(question, self.shows_calls), **shown)

    def example(self, question: Question, completion: str, weight: float = 1) -> Example:
        """What a student is trained on."""
        return Example(**asked(question, self.shows_calls), completion=completion, weight=weight)

    def examples(
        self, questions: Sequence[Question], responses: Sequence[TeacherResponse]
    ) -> tuple[list[Example], dict[str, int]]:
        """The teacher's usable responses as training rows, and how many were dropped for which reason."""
        by_id = {q.id: q for q in questions}
        dropped = Counter(response.outcome for response in responses if response.outcome != "ok")
        kept = [response for response in responses if response.outcome == "ok"]
        usable = [self.example(by_id[response.id], response.completion, response.share or 1) for response in kept]
        repeated = near_duplicates([f"{row.question} {row.completion}" for row in usable])
        if repeated:
            dropped["near_duplicate"] = len(repeated)
        return [row for i, row in enumerate(usable) if i not in repeated], dict(dropped)

    def pair(self, question: Question, chosen: str, rejected: str, **more: Any) -> PreferencePair:
        """What a student is to prefer, and to what. more: the pair's other fields."""
        return PreferencePair(**asked(question, self.shows_calls), chosen=chosen, rejected=rejected, **more)

    def asking(
        self, model: ModelRef, max_tokens: int | None = None, temperature: float = 0.0, n: int = 1, salt: int = 0
    ) -> StudentParams:
        """How a student decodes. max_tokens: by default those of an answer. n: completions of each prompt. salt: added to the seed."""
        return StudentParams(
            model=model,
            domain=self.spec.domain,
            sampling=Sampling(
                max_tokens=self.spec.student_tokens if max_tokens is None else max_tokens,
                temperature=temperature,
                seed=self.seed + salt,
            ),
            n=n,
        )

    async def guidelines(self, key: StepKey, model: ModelRef, questions: Sequence[Question]) -> dict[str, str]:
        """By question, what the student notes for the teacher; without those that were cut off."""
        params = self.asking(model, max_tokens=self.spec.distill.guideline_tokens)
        written = await self.step(key, StepKind.GUIDE, params, [self.prompt(q) for q in questions])
        return {row.id: row.guideline for row in written.read(Guideline) if not row.cut_off}

    async def train(
        self,
        key: StepKey,
        kind: StepKind,
        rows: Sequence[Wire],
        model: ModelRef,
        epochs: float,
        learning_rate: float,
        **loss: float,
    ) -> tuple[ModelRef, TrainingFigures]:
        """Train a model on rows; returns the new student and the training's figures.

        OpenAI's hyperparameters override the phase's epochs and scale its learning rate. loss: beta and sft_weight of DPO.
        """
        hyper, adapter = self.hyperparameters, self.spec.adapter
        scale = 1.0 if hyper.learning_rate_multiplier == "auto" else hyper.learning_rate_multiplier
        params = TrainParams(
            model=model,
            method=adapter.method,
            # what full training does not read must not change the step's hash
            adapter=AdapterConfig.model_validate(
                adapter.model_dump(include=set(ALL_WEIGHTS))
                if adapter.method is Method.FULL
                else adapter.model_dump(exclude={"method"})
            ),
            epochs=epochs if hyper.n_epochs == "auto" else hyper.n_epochs,
            batch_size=8 if hyper.batch_size == "auto" else hyper.batch_size,
            learning_rate=learning_rate * scale,
            seed=self.seed,
            **loss,
        )
        result = await self.step(key, kind, params, rows)
        method = Method.FULL if result.weights else Method.LORA
        return model.trained(method, result.trained), TrainingFigures(**result.metrics)
