"""A command line whose commands are imported when they are called: `meteor` starts in 0.4 s."""

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from shared.contracts.errors import MeteorError

Homes = Mapping[str, tuple[str, ...]]  # command -> "module:attribute"; several are one group of all their commands
EXIT_CODES = {"paused": 3}  # by an error's code; all others end with 1


class LazyCommands(MutableMapping[str, Any]):
    """Name -> command. Reading a command imports its module."""

    def __init__(self, homes: Homes) -> None:
        self._homes = homes
        self._loaded: dict[str, object] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = load(name, self._homes[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


def load(name: str, homes: tuple[str, ...]) -> Any:
    """The command or group of this name."""
    parts = [
        getattr(import_module(module), attribute) for module, _, attribute in (home.partition(":") for home in homes)
    ]
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    if not isinstance(parts[0], typer.Typer):
        app.command(name)(parts[0])
        return typer.main.get_command(app)
    app.info = parts[0].info
    for part in parts:
        app.add_typer(part)
    group = typer.main.get_group(app)
    group.name = name
    return group


def program(about: str, homes: Homes) -> typer.Typer:
    """The whole command line."""

    class Commands(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = LazyCommands(homes)

    cli = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)

    @cli.callback(help=about)
    def everywhere(
        url: Annotated[str | None, typer.Option("--url", help="an API on another machine; as METEOR_URL says")] = None,
    ) -> None:
        if url is not None:
            os.environ["METEOR_URL"] = url

    return cli


def run(cli: typer.Typer, name: str = "meteor") -> None:
    """Our own errors are one line on standard error; all others keep their traceback."""
    try:
        cli(prog_name=name)
    except MeteorError as error:
        sys.stderr.write(f"{name}: {error}\n")
        raise SystemExit(EXIT_CODES.get(error.code, 1)) from None
