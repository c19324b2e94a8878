"""The launcher that METEOR_TRAINER_LAUNCHER names, and the handlers that go through it."""

from collections.abc import Mapping

from services.trainer.launchers.local import Local
from services.trainer.launchers.on_cluster import OnCluster
from services.trainer.launchers.one_at_a_time import one_at_a_time
from services.trainer.launchers.port import COMPUTE, Launcher
from services.trainer.launchers.ray_jobs import RayCluster
from services.trainer.settings import TrainerSettings
from shared.contracts.steps import StepKind
from shared.platform.settings import PlatformSettings
from shared.queue.step_task import Handler


def launcher_of(
    settings: TrainerSettings, platform: PlatformSettings, handlers: Mapping[StepKind, Handler]
) -> Launcher:
    if settings.launcher == "ray":
        return OnCluster(RayCluster(settings), settings, platform)
    return Local(handlers)


def launched(handlers: Mapping[StepKind, Handler], launcher: Launcher) -> dict[StepKind, Handler]:
    """The table that `serve_queue` takes: what computes goes through the launcher, the rest stays with the worker."""
    stays = one_at_a_time if launcher.slots > 1 else lambda handler: handler
    return {kind: launcher.run if kind in COMPUTE else stays(handler) for kind, handler in handlers.items()}
