"""/v1/recipes"""

from fastapi import Response

from services.api.deps import Context, Id, Page, needs
from services.api.features.recipes import service as recipes
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.keys import Scope
from shared.contracts.notices import NoticeObject
from shared.contracts.recipes import RecipeObject, RecipeRequest
from shared.contracts.views import Deleted, Listed

router = Router(prefix="/v1/recipes", tags=["recipes"], dependencies=[needs(Scope.JOBS)])


@router.post("", status_code=201, dependencies=[once], responses=may_answer(404, 409, 422))
def create_recipe(context: Context, body: RecipeRequest, response: Response) -> RecipeObject:
    """A recipe makes a job whenever there are new rows, or at intervals. The first job is made as soon as it is due."""
    made = recipes.create(context, body)
    response.headers["location"] = f"/v1/recipes/{made.id}"
    return made


@router.get("")
def list_recipes(context: Context, paging: Page) -> Listed[RecipeObject]:
    return recipes.page(context, paging)


@router.get("/{recipe_id}")
def get_recipe(context: Context, recipe_id: Id) -> RecipeObject:
    return recipes.get(context, recipe_id)


@router.delete("/{recipe_id}")
def delete_recipe(context: Context, recipe_id: Id) -> Deleted:
    """With its runs and events. The jobs that it made stay."""
    context.stores.recipes.delete(context.project, recipe_id)
    return Deleted(id=recipe_id, object="recipe.deleted")


@router.post("/{recipe_id}/pause", dependencies=[once], responses=may_answer(409, 422))
def pause_recipe(context: Context, recipe_id: Id) -> RecipeObject:
    """Start no further runs. A job that was made goes on."""
    return recipes.set_paused(context, recipe_id, True)


@router.post("/{recipe_id}/resume", dependencies=[once], responses=may_answer(409, 422))
def resume_recipe(context: Context, recipe_id: Id) -> RecipeObject:
    """Continue. The recipe is checked at once, even if it waited after a failed run."""
    return recipes.set_paused(context, recipe_id, False)


@router.get("/{recipe_id}/events")
def list_recipe_events(context: Context, recipe_id: Id, paging: Page) -> Listed[NoticeObject]:
    """What happened to it: created, made, failed, paused, resumed."""
    return recipes.events(context, recipe_id, paging)
