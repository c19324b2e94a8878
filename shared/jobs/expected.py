"""The speeds that a job of this deployment is expected to run at: from earlier jobs with the same models, else from the sizes of the
student and of this machine."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from shared.contracts.distillation import Distillation
from shared.contracts.jobs import JobRequest, Measured
from shared.contracts.steps import Queue, StepKind
from shared.jobs.overview import Overview, Past
from shared.plan.device_memory import parameters_of
from shared.plan.rates import Lengths, Machine, Rates, first_rates, learned_rates, probe_rate

ENOUGH_JOBS = 3  # the newest jobs that have measured a kind
NVIDIA = Path("/dev/nvidiactl")


def expected_rates(overview: Overview, request: JobRequest, lengths: Lengths, folder: Path | None) -> Rates:
    """lengths: of the job's rows. folder: of the base's weights; None: unknown here."""
    machine, spec = machine_of(folder), request.distillation
    first = first_rates(spec, lengths, machine)

    def scale(past: Distillation, kind: StepKind) -> float:
        """What other limits of tokens and widths of search make of it."""
        return first[kind].seconds / first_rates(past, lengths, machine)[kind].seconds

    past = [*overview.past()]
    return learned_rates(first, _measured(past, request, set(first), scale)) | {
        StepKind.PROBE: probe_rate(_probed(past))
    }


def _probed(past: Iterable[Past]) -> Measured:
    """Of the newest jobs that had their base tried, whichever it was."""
    tried = [job.measured[StepKind.PROBE.value] for job in past if StepKind.PROBE.value in job.measured][:ENOUGH_JOBS]
    return Measured(rows=sum(one.rows for one in tried), seconds=sum(one.seconds for one in tried))


def _measured(past: Iterable[Past], request: JobRequest, kinds: set[StepKind], scale) -> dict[StepKind, Measured]:
    """Of the newest jobs with the same student, teacher or judge, by kind."""
    seen: defaultdict[StepKind, list[Measured]] = defaultdict(list)
    for job in past:
        for name, one in job.measured.items():
            kind = StepKind(name)
            if kind in kinds and len(seen[kind]) < ENOUGH_JOBS and _asks(job.request, kind) == _asks(request, kind):
                seconds = one.seconds * scale(job.request.distillation, kind)
                seen[kind].append(Measured(rows=one.rows, seconds=seconds))
    return {
        kind: Measured(rows=sum(one.rows for one in all_), seconds=sum(one.seconds for one in all_))
        for kind, all_ in seen.items()
        if all_
    }


def _asks(request: JobRequest, kind: StepKind) -> object:
    """The model that works at this kind, as far as its speed depends on it."""
    spec = request.distillation
    if kind.queue is Queue.STRONG:
        return spec.teacher.provider
    if kind.queue is Queue.JUDGE:
        return spec.judge.provider
    return request.model, spec.adapter.method


def machine_of(folder: Path | None) -> Machine:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(parameters_of(folder), cores, NVIDIA.exists())
