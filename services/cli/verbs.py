"""The commands that all nouns share: list, show, cancel, pause, resume, delete."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic

import typer

from services.cli.client import ApiClient, Item, Resource, client
from services.cli.options import DEFAULT_DATA, DEFAULT_LIMIT, After, Data, Json, Limit
from services.cli.output import Columns, emit_page
from shared.platform.terminal import emit

Text = Callable[[Any], str]


def status_of(item: Any) -> str:
    return item.status


@dataclass(frozen=True)
class Noun(Generic[Item]):
    """command: as typed, such as `meteor exports`. name_help: of the argument that names an object."""

    app: typer.Typer
    command: str
    resource: Resource[Item]
    columns: Columns[Item]
    name_help: str
    resolve: Callable[[ApiClient, str], str] = lambda _, name: name

    def add_list(self, about: str, name: str = "list") -> None:
        @self.app.command(name, help=about)
        def list_items(
            limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
        ) -> None:
            with client(data) as api:
                page = api.page(self.resource, limit, after)
            emit_page(page, self.columns, as_json, f"{self.command} {name}")

    def add_show(self, about: str, text: Text | None = None) -> None:
        """text: for people; None: the object as indented JSON."""

        @self.app.command("show", help=about)
        def show(
            name: Annotated[str, typer.Argument(help=self.name_help)],
            as_json: Json = False,
            data: Data = DEFAULT_DATA,
        ) -> None:
            with client(data) as api:
                item = api.get(self.resource, self.resolve(api, name))
            emit(item, as_json, None if text is None or as_json else text(item))

    def add_act(self, verb: str, about: str, text: Text = status_of) -> None:
        @self.app.command(verb, help=about)
        def act(
            name: Annotated[str, typer.Argument(help=self.name_help)],
            as_json: Json = False,
            data: Data = DEFAULT_DATA,
        ) -> None:
            with client(data) as api:
                item = api.act(self.resource, self.resolve(api, name), verb)
            emit(item, as_json, text(item))

    def add_delete(self, about: str, done: str = "deleted", name: str = "delete") -> None:
        """One or several objects."""

        @self.app.command(name, help=about)
        def delete(
            names: Annotated[list[str], typer.Argument(help=self.name_help)],
            as_json: Json = False,
            data: Data = DEFAULT_DATA,
        ) -> None:
            with client(data) as api:
                for item in names:
                    emit(api.delete(self.resource, item), as_json, f"{item} {done}")
