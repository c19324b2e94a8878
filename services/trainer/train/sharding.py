"""Whether several processes hold one base in parts (FSDP2) instead of a copy each. transformers reads each process's part alone.

The adapter stays whole in each: its gradients, optimizer, checkpoints and files are those of processes with copies. What is different is
that a layer is gathered from all when it is computed, so every process makes as many passes, and none may repeat one alone.
"""

from typing import Any, cast

from peft import PeftModel
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel

from services.trainer.spec import Spec
from services.trainer.train import processes, together
from services.trainer.train.model import device, trainable
from services.trainer.train.room import CudaMeter
from shared.contracts.errors import FatalError
from shared.contracts.steps import TrainParams
from shared.plan import device_memory
from shared.plan.device_memory import parameters_of


def load(spec: Spec, params: TrainParams) -> PreTrainedModel | PeftModel:
    """What is trained, held as decided here. Raises FatalError for a base that cannot be held in parts."""
    count = parts(spec, params)
    model = trainable(spec, params, count)
    if count > 1:
        _check(cast(PeftModel, model).get_base_model())
    return model


def parts(spec: Spec, params: TrainParams) -> int:
    """In how many the base is held: as many as there are processes, or one, whole. The same for every process.

    spec.fsdp: None where the training of an adapter does not fit on one GPU otherwise.
    """
    count = processes.count()
    if count == 1 or spec.fsdp is False or not device_memory.may_be_shared(params.method, params.adapter):
        return 1
    if spec.fsdp is None and device().type == "cpu":
        return 1
    together.start()
    if spec.fsdp is None and together.everywhere(_fits(spec, params)):
        return 1
    return count


def _fits(spec: Spec, params: TrainParams) -> bool:
    """Whether this process's device takes a copy and one row; so it is assumed where the base's figures are unknown."""
    figures = device_memory.figures_in(spec.base, parameters_of(spec.base))
    if figures is None:
        return True
    need = device_memory.least(figures, params.method, params.adapter, params.adapter.max_length, gpu=True)
    return need <= CudaMeter().free()


def _check(model: Any) -> None:
    """Raises FatalError where a base's layers were not divided: each process would gather all of them at once. And where a layer has
    values that its files lack: transformers leaves them empty (mup_vector of falcon-h1)."""
    layers = getattr(model.base_model, "layers", ())
    made = {name for layer in layers for name in dict(layer.named_buffers()).keys() - layer.state_dict().keys()}
    if made:
        reason = f"transformers does not make {', '.join(sorted(made))} for parts of it"
    elif not len(layers) or not all(isinstance(layer, FSDPModule) for layer in layers):
        reason = "transformers has no FSDP plan for its layers"
    else:
        return
    name = type(model).__name__.removeprefix("FSDP")
    raise FatalError(
        f"{name} cannot be held in parts by several GPUs: {reason}. Ask for distillation.adapter.load_in_4bit, take a larger GPU, or "
        "unset METEOR_TRAINER_FSDP where one GPU is enough",
        code="not_shardable",
    )
