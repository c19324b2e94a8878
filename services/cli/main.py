"""The API from a terminal: jobs, data, models, keys. `meteor` adds the commands of this machine."""

from shared.platform.program import program, run

COMMANDS = "services.cli.commands"
HOMES = {
    "models": (f"{COMMANDS}.models:app",),
    "jobs": (f"{COMMANDS}.jobs:app",),
    "report": (f"{COMMANDS}.report:report",),
    "usage": (f"{COMMANDS}.report:usage",),
    "chat": (f"{COMMANDS}.chat:chat",),
    "data": (f"{COMMANDS}.data:app",),
    "experiments": (f"{COMMANDS}.experiments:app",),
    "labels": (f"{COMMANDS}.labels:app",),
    "graders": (f"{COMMANDS}.graders:graders",),
    "evals": (f"{COMMANDS}.evals:app",),
    "exports": (f"{COMMANDS}.exports:app",),
    "recipes": (f"{COMMANDS}.recipes:app",),
    "canary": (f"{COMMANDS}.canary:app",),
    "capture": (f"{COMMANDS}.capture:app",),
    "completions": (f"{COMMANDS}.completions:app",),
    "feedback": (f"{COMMANDS}.feedback:app",),
    "keys": (f"{COMMANDS}.keys:app",),
    "providers": (f"{COMMANDS}.providers:app",),
    "projects": (f"{COMMANDS}.projects:app",),
    "webhooks": (f"{COMMANDS}.webhooks:app",),
    "spending": (f"{COMMANDS}.spending:spending",),
    "system": (f"{COMMANDS}.system:system",),
    "audit": (f"{COMMANDS}.audit:audit",),
}


def app() -> None:
    run(program(__doc__ or "", HOMES))
