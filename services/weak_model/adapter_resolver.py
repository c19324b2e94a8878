"""A plugin of vLLM's that finds an adapter by its content hash on object storage, at the first request for it.

So a replica that starts later, or again, serves every version, and nobody places files beside it. Loaded by vLLM inside its own
processes (entry point `vllm.general_plugins`); of a plain vLLM it needs METEOR_ARTIFACTS_URL, METEOR_STUDENT_MODEL (the name that jobs call
the base), METEOR_DATA (a folder for copies) and --enable-lora with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from shared.artifacts.bases import Bases
from shared.artifacts.opening import open_artifacts
from shared.artifacts.serving import BASE, CONFIG, serve_adapter
from shared.artifacts.store import ArtifactMissing, Artifacts
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings

log = get_logger(__name__)
NAME = re.compile(r"[0-9a-f]{64}")
RESOLVER = "METEOR adapters by content hash"


def register() -> None:
    """Called by vLLM at the start of each of its processes. Without METEOR_ARTIFACTS_URL it changes nothing."""
    settings = PlatformSettings()
    if not settings.artifacts_url:
        return
    from vllm.lora.resolver import LoRAResolverRegistry

    LoRAResolverRegistry.register_resolver(RESOLVER, resolver(settings))


def resolver(settings: PlatformSettings) -> Any:
    """A LoRAResolver of vLLM's, made here because vLLM is imported by its own processes alone."""
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver

    artifacts, student = open_artifacts(settings), Bases().student_model

    class AdapterResolver(LoRAResolver):
        async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
            """base_model_name: the model as the server was started with it. None for what is no adapter of this base."""
            path = await asyncio.to_thread(
                serving_copy, lora_name, artifacts, settings.serving, student, base_model_name
            )
            if path is None:
                return None
            return LoRARequest(lora_name=lora_name, lora_int_id=abs(hash(lora_name)), lora_path=str(path))

    return AdapterResolver()


def serving_copy(name: str, artifacts: Artifacts, serving: Path, student: str, base: str) -> Path | None:
    """The folder of an adapter for the engine. student: what the adapter must have been trained on; base: the engine's name for it."""
    if not NAME.fullmatch(name):
        return None
    try:
        trained_on = json.loads((artifacts.folder(name) / CONFIG).read_bytes())[BASE]
        if trained_on != student:
            log.warning("an adapter of another base was asked for", adapter=name, base=trained_on, served=student)
            return None
        return serve_adapter(name, artifacts, serving, base)
    except (ArtifactMissing, FileNotFoundError) as error:
        log.warning("there is no such adapter", adapter=name, reason=str(error))
        return None
