"""`meteor recipes ...`: jobs that are made again, by new rows or by time."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.client import Resource, client, job_body
from services.cli.commands.canary import EVENTS
from services.cli.options import DEFAULT_DATA, DEFAULT_LIMIT, After, Data, Json, Limit
from services.cli.output import Columns, emit_page, minute
from services.cli.verbs import Noun
from shared.contracts.notices import NoticeObject
from shared.contracts.recipes import RecipeObject, RecipeRun
from shared.contracts.views import Listed
from shared.platform.terminal import emit

app = typer.Typer(help="Recipes: make, list, pause, see what they made.", no_args_is_help=True)
RECIPES = Resource("/v1/recipes", RecipeObject, Listed[RecipeObject])


def trigger_of(recipe: RecipeObject) -> str:
    if recipe.trigger.rows is not None:
        new = "no source" if recipe.new_rows is None else f"{recipe.new_rows} new"
        return f"every {recipe.trigger.rows} rows ({new})"
    return f"every {recipe.trigger.every}"


def outcome_of(run: RecipeRun | None) -> str | None:
    if run is None:
        return None
    what = run.job_id or (run.error.message if run.error else run.status.value)
    return f"{minute(run.at)} {what}"


COLUMNS: Columns[RecipeObject] = {
    "recipe": lambda recipe: recipe.id,
    "name": lambda recipe: recipe.name,
    "status": lambda recipe: recipe.status,
    "trigger": trigger_of,
    "last run": lambda recipe: outcome_of(recipe.last_run),
    "next run": lambda recipe: minute(recipe.next_run_at),
    "waits for": lambda recipe: recipe.waits_for,
}
Recipe = Annotated[str, typer.Argument(help="an id, as `meteor recipes list` shows it")]


@app.command()
def create(
    body: Annotated[Path, typer.Argument(help="a JSON file with name, job, source and trigger")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a recipe; its first job is made as soon as it is due."""
    with client(data) as api:
        made = api.ask(RecipeObject, "POST", RECIPES.route, job_body(body))
    emit(made, as_json, made.id)


@app.command()
def events(
    recipe: Recipe, limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """What happened to a recipe, the newest first."""
    of_recipe = Resource(RECIPES.path(recipe, "events"), NoticeObject, Listed[NoticeObject])
    with client(data) as api:
        page = api.page(of_recipe, limit, after)
    emit_page(page, EVENTS, as_json, f"meteor recipes events {recipe}")


noun = Noun(app, "meteor recipes", RECIPES, COLUMNS, "an id, as `meteor recipes list` shows it")
noun.add_list("The recipes, the newest first.")
noun.add_show("One recipe: its job, source and trigger, its last run and the next.")
noun.add_act("pause", "Start no further runs.")
noun.add_act("resume", "Go on, also after a run that failed.")
noun.add_delete("Delete recipes. The jobs that they made stay.")
