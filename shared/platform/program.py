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

    def __init__(self, homes: Homes, examples: Mapping[str, str]) -> None:
        self._homes, self._examples = homes, examples
        self._loaded: dict[str, object] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = with_examples(load(name, self._homes[name]), name, self._examples)
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


def with_examples(command: Any, path: str, examples: Mapping[str, str]) -> Any:
    """The command, or the group with all its commands, with an example at the end of its help."""
    if path in examples:
        command.epilog = f"Example: meteor {examples[path]}"
    for name, inner in getattr(command, "commands", {}).items():
        with_examples(inner, f"{path} {name}", examples)
    return command


def program(about: str, homes: Homes, examples: Mapping[str, str] | None = None) -> typer.Typer:
    """The whole command line. examples: by command, without the program's name."""

    class Commands(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = LazyCommands(homes, examples or {})

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
