"""Everything on one machine: start and stop it, prepare models, find what is wrong. `meteor` adds the API's commands."""

from shared.platform.program import program, run

COMMANDS = "services.local.commands"
HOMES = {
    "up": (f"{COMMANDS}.start_stop:up",),
    "down": (f"{COMMANDS}.start_stop:down",),
    "status": (f"{COMMANDS}.start_stop:status",),
    "doctor": (f"{COMMANDS}.doctor:doctor",),
    "gc": (f"{COMMANDS}.upkeep:gc",),
    "backup": (f"{COMMANDS}.upkeep:backup",),
    "upload-artifacts": (f"{COMMANDS}.upkeep:upload_artifacts",),
    "providers": (f"{COMMANDS}.providers:app",),
    "models": (f"{COMMANDS}.models:app",),
}


def app() -> None:
    run(program(__doc__ or "", HOMES))
