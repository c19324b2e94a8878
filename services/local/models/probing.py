"""What a prepared model can do, from the cache beside the models or by trying it."""

from pathlib import Path

from services.local.models.folder import ModelRefused
from services.local.models.prepare import PreparedModel
from services.local.progress import ProgressReport
from shared.artifacts import capabilities
from shared.contracts.capabilities import Ability, Capabilities

CACHE = ".capabilities"
ABILITIES = {
    "load": "load",
    "serve": "serve",
    "train_lora": "train an adapter",
    "train_full": "train whole",
    "dpo": "learn from preferences",
    "search": "search for answers",
}


def tried(model: PreparedModel, models: Path, report: ProgressReport) -> Capabilities:
    """Raises ModelRefused for a model that is of no use as a student, with the reason and what to do instead."""
    report.note(f"trying what {model.name} can do (once, up to a minute)")
    result = capabilities.ensure(models / CACHE, model.name, model.path)
    refusal = result.refusal
    if refusal:
        remedy = f"; {refusal.remedy}" if refusal.remedy else ""
        raise ModelRefused(f"{model.name} cannot be a student: {refusal.reason}{remedy}")
    report.say(summary(result))
    return result


def known(name: str, models: Path) -> Capabilities | None:
    return capabilities.kept(models / CACHE, name)


def publish(data: Path, model: PreparedModel, models: Path) -> None:
    """Give the services of a data folder what `pull` found; what is not known yet the trainer tries after its start."""
    result = known(model.name, models)
    if result is not None and result.identity == capabilities.identity(model.path):
        capabilities.keep(capabilities.folder_of(data), result)


def summary(result: Capabilities) -> str:
    """One line: what it is, what it can do, and why not."""
    context = f"{result.context:,} tokens" if result.context else "no limit of tokens"
    kind = f"{result.experts} experts" if result.experts else "hybrid" if result.hybrid else "dense"
    able = [words for name, words in ABILITIES.items() if getattr(result, name).ok]
    unable = [
        f"cannot {words}: {_why(getattr(result, name))}"
        for name, words in ABILITIES.items()
        if getattr(result, name).ok is not True
    ]
    size = f"{result.parameters / 1e6:,.0f} M parameters, {kind}, {context}, attention {result.attention}"
    return "; ".join(
        [
            f"{result.architecture or result.base}: {size}",
            f"can {', '.join(able)}" if able else "",
            *unable,
            *result.warnings,
        ]
    ).replace("; ;", ";")


def _why(ability: Ability) -> str:
    return ability.reason or "it was not tried"
