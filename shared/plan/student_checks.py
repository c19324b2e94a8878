"""Which settings of a job its student cannot fulfil, by the results of the probe. Read when a job is posted."""

from collections.abc import Iterator

from shared.contracts.capabilities import Ability, Capabilities
from shared.contracts.distillation import Adapter, Baseline, Phase
from shared.contracts.jobs import JobRequest
from shared.contracts.problems import Problem
from shared.contracts.steps import Method

CODE = "student_unfit"


def problems(capabilities: Capabilities, request: JobRequest, max_rank: int) -> list[Problem]:
    """All of them, each with what to do instead. max_rank: of an adapter that the engine serves."""
    return [*_of_base(capabilities), *_of_training(capabilities, request, max_rank)]


def _of_base(capabilities: Capabilities) -> Iterator[Problem]:
    for ability, what in ((capabilities.load, "cannot be loaded"), (capabilities.serve, "cannot be served")):
        if ability.ok is False:
            yield _unfit(capabilities, ability, what, "model")


def _of_training(capabilities: Capabilities, request: JobRequest, max_rank: int) -> Iterator[Problem]:
    spec = request.distillation
    adapter, full = spec.adapter, spec.adapter.method is Method.FULL
    trains = bool(spec.phases) or Baseline.SFT_REFERENCES in spec.evaluation.baselines
    training = capabilities.train_full if full else capabilities.train_lora
    if trains and training.ok is False:
        what = "cannot be trained whole" if full else "cannot be trained by an adapter"
        yield _unfit(capabilities, training, what, "distillation.adapter.method")
    if Phase.EVOLVE in spec.phases:
        if capabilities.dpo.ok is False:
            yield _unfit(capabilities, capabilities.dpo, "cannot be trained on preferences", "distillation.phases")
        if spec.evolve.pairs == "decoding" and capabilities.search.ok is False:
            yield _unfit(capabilities, capabilities.search, "cannot search for answers", "distillation.evolve.pairs")
    if trains:
        yield from _libraries(capabilities, adapter)
    if full or not trains:
        return
    unknown = sorted(_wanted(adapter.targets) - set(capabilities.linear)) if capabilities.linear else []
    if unknown:
        hint = "experts and their router are not trained; " if capabilities.experts else ""
        yield Problem(
            code="unknown_targets",
            param="distillation.adapter.targets",
            message=f"{capabilities.base} has no linear module {', '.join(unknown)} on which an adapter may sit",
            remedy=f"{hint}name some of {', '.join(capabilities.linear)}, or all-linear",
        )
    rank = adapter.rank * capabilities.rank_factor
    if (
        not adapter.is_whole and rank > max_rank and adapter.rank <= max_rank
    ):  # a larger rank of its own is refused for every student
        yield Problem(
            code="rank_too_large",
            param="distillation.adapter.rank",
            message=f"an adapter of rank {adapter.rank} on {capabilities.base} has rank {rank} in the engine, which serves "
            f"{max_rank} at most",
            remedy=f"ask for rank {max(1, max_rank // capabilities.rank_factor)}, or raise METEOR_ENGINE_MAX_LORA_RANK",
        )


def _libraries(capabilities: Capabilities, adapter: Adapter) -> Iterator[Problem]:
    """What the trainer's environment lacks, and what it has and could not use."""
    for package, setting in adapter.libraries.items():
        if capabilities.libraries and package not in capabilities.libraries:
            yield Problem(
                code="library_missing",
                param=f"distillation.adapter.{setting}",
                message=f"{setting} {getattr(adapter, setting)} needs {package}, which is not installed where the trainer runs",
                remedy=f"install it there (`make install-quantized`), or leave {setting} out",
            )
    if adapter.load_in_4bit and capabilities.train_4bit.ok is False:
        yield _unfit(
            capabilities, capabilities.train_4bit, "cannot be trained in 4 bits", "distillation.adapter.load_in_4bit"
        )


def _wanted(targets: str) -> set[str]:
    return set() if targets == "all-linear" else {name.strip().rpartition(".")[2] for name in targets.split(",")}


def _unfit(capabilities: Capabilities, ability: Ability, what: str, param: str) -> Problem:
    return Problem(
        code=CODE,
        param=param,
        message=f"{capabilities.base} {what}: {ability.reason}",
        remedy=ability.remedy or "take another student",
    )
