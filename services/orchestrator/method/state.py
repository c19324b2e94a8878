"""What one phase hands to the next: `State` and `PhaseResult`. Both are frozen; only pipeline.py folds a result into the next state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.contracts.distillation import Guidance, Phase
from shared.contracts.phase_records import DistillRecord, EvolveRecord, IterateRecord
from shared.contracts.rows import Example
from shared.contracts.steps import ModelRef


@dataclass(frozen=True)
class State:
    """What the phases so far have come to.

    student: the model that the next phase starts from. guidance: how phase 1 asks the teacher, settled by the pilot.
    tries_judge: the pilot looks first whether the judge's replies can be read; gates_judge: and whether it tells a right answer from
    one to another question.
    judge_decides: False once human preferences or the gate show that the judge is no better than chance. examples: what students were
    trained on so far, in order. checkpoints: per phase the named students after each round or iteration, where it has several.
    writes_rationale: content hashes of the students that were trained to write a rationale. base_answers: the base's answers on dev.
    """

    student: ModelRef
    guidance: Guidance
    judge_decides: bool = True
    tries_judge: bool = False
    gates_judge: bool = False
    examples: Sequence[Example] = ()
    checkpoints: Mapping[Phase, Sequence[tuple[str, ModelRef]]] = field(default_factory=dict)
    writes_rationale: frozenset[str | None] = frozenset()
    base_answers: Sequence[str] = ()


@dataclass(frozen=True)
class PhaseResult:
    """A phase's student, what it was trained on in this phase, the students on the way and the phase's part of the report."""

    student: ModelRef
    record: DistillRecord | IterateRecord | EvolveRecord
    examples: Sequence[Example] = ()
    checkpoints: Sequence[tuple[str, ModelRef]] = ()
    writes_rationale: frozenset[str | None] = frozenset()
