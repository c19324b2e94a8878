"""The `meteor` command: start and stop everything on one machine, prepare models, follow jobs."""

from services.cli.main import HOMES as CLIENT
from services.local.main import HOMES as MACHINE
from services.meteor.examples import EXAMPLES
from shared.platform.program import program, run

BOTH = CLIENT.keys() & MACHINE.keys()  # `models` acts on this machine and on the API
cli = program(
    __doc__ or "",
    MACHINE | {"demo": ("services.meteor.demo:demo",)} | CLIENT | {name: MACHINE[name] + CLIENT[name] for name in BOTH},
    EXAMPLES,
)


def app() -> None:
    run(cli)
