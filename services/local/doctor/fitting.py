"""Whether a student's engine and its training fit on this machine's device, before a job is posted."""

from collections.abc import Iterator
from pathlib import Path

import psutil

from services.local.doctor.finding import Finding, Installation, ok, warn
from services.local.doctor.machine import GB, gpu_count, gpu_gb
from shared.contracts.device import DeviceSharing, engine_share
from shared.contracts.steps import AdapterConfig, Method
from shared.plan import device_memory
from shared.plan.device_memory import parameters_of

SHARE = "METEOR_ENGINE_GPU_MEMORY_UTILIZATION"
CONTEXT, GPUS = "METEOR_ENGINE_MAX_MODEL_LEN", "METEOR_TRAINER_GPUS"
PLAIN = AdapterConfig()  # as a job has it that names nothing


def student(installation: Installation, name: str, folder: Path) -> Iterator[Finding]:
    """An adapter's training with a job's default settings, and the engine where it has a GPU's share."""
    figures = device_memory.figures_in(folder, parameters_of(folder))
    if figures is None:
        return
    there = gpu_gb()
    on_gpu, label = there is not None, f"memory for {name}"
    room = there if there is not None else psutil.virtual_memory().total / GB
    engine = 0.0
    if there is not None and not installation.local.weak_engine_url:
        given, sharing = installation.environment.get(SHARE), installation.platform.device_sharing
        share = engine_share(float(given) if given else None, sharing)
        context = int(installation.environment.get(CONTEXT) or 2048)
        engine, needs = share * there, device_memory.engine(figures, context) / GB
        if needs > engine:
            yield warn(
                label,
                f"its engine takes {needs:.1f} GB at least, and {SHARE} {share:g} gives it {engine:.1f} of {there:.1f} GB",
                f"raise {SHARE}, lower {CONTEXT}, or take a smaller student",
            )
        engine = 0.0 if sharing is DeviceSharing.TIME else engine
    for_it = max(0.0, room - engine)
    least = device_memory.least(figures, Method.LORA, PLAIN, PLAIN.max_length, on_gpu) / GB
    message = f"training an adapter takes {least:.1f} GB at least; {for_it:.1f} of {room:.1f} GB are for it"
    named = len(installation.environment.get(GPUS, "").split(","))
    in_parts = device_memory.least(figures, Method.LORA, PLAIN, PLAIN.max_length, on_gpu, named) / GB
    if least <= for_it:
        yield ok(label, message)
        return
    if named > 1 and in_parts <= for_it:
        yield ok(label, f"{message}; {named} GPUs hold it in parts, with {in_parts:.1f} GB at least on each")
        return
    bounds = figures, Method.LORA, PLAIN, PLAIN.max_length, for_it * GB
    parts = device_memory.devices_needed(*bounds, gpu_count()) if on_gpu else None
    yield warn(
        label,
        message,
        device_memory.in_parts(parts) if parts else f"in a job, {device_memory.remedy(*bounds, on_gpu)}",
    )
