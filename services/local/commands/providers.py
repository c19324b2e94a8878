"""`meteor providers add|list|presets|remove`: which strong models this machine knows."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.local.providers import file
from services.local.providers.presets import Preset, preset, presets
from services.local.settings import LocalSettings
from shared.contracts.distillation import checked_name
from shared.contracts.errors import UserError
from shared.contracts.json_types import Json as JsonObject
from shared.platform import run_state
from shared.platform.providers import DEFAULT_FILE, providers_path
from shared.platform.terminal import emit, say

app = typer.Typer(help="Strong models: add, list, test, remove.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="the answer as JSON, for scripts")]
Data = Annotated[Path, typer.Option(envvar="METEOR_DATA", help="the data folder")]
DATA = Path(".meteor")


@app.command()
def add(
    provider: Annotated[str, typer.Argument(metavar="PRESET", help="a name of `meteor providers presets`")],
    name: Annotated[str | None, typer.Option(help="what jobs call it; default: the preset's name")] = None,
    model: Annotated[str | None, typer.Option(help="the provider's name of the model")] = None,
    base_url: Annotated[str | None, typer.Option(help="its address, as OpenAI's SDK takes it")] = None,
    key_env: Annotated[
        str | None, typer.Option(help="the variable that holds the key (its name, not the key); empty: no key")
    ] = None,
    price_input: Annotated[float | None, typer.Option(min=0, help="USD per million tokens")] = None,
    price_output: Annotated[float | None, typer.Option(min=0, help="USD per million tokens")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE, such as requests_per_minute=60; may be repeated")
    ] = None,
    replace: Annotated[bool, typer.Option(help="write over an entry of this name")] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Write an entry to METEOR_PROVIDERS_FILE (default: providers.toml of the data folder). The next `meteor up` reads it."""
    chosen = preset(provider)
    fields = entry_of(provider, chosen, model, base_url, key_env)
    fields |= {
        field: price
        for field, price in (("price_input", price_input), ("price_output", price_output))
        if price is not None
    }
    fields |= dict(assigned(text) for text in sets or [])
    try:
        name = checked_name(name or provider)
    except ValueError as error:
        raise UserError(f"--name: {error}", code="invalid_value") from None
    path = file_of(data)
    file.add(path, name, fields, replace)
    emit(
        {"name": name, "file": str(path)} | fields,
        as_json,
        f"{name}: {fields['model']} at {fields['base_url']}, in {path}",
    )
    if not as_json:
        for line in advice(provider, chosen, name, fields, data):
            say(line)


def entry_of(provider: str, chosen: Preset, model: str | None, base_url: str | None, key_env: str | None) -> JsonObject:
    """The fields of an entry by a preset and the options given. Raises UserError for what the preset leaves to the user."""
    given = {"base_url": base_url, "model": model}
    missing = [field for field in chosen.needs if not given[field]]
    if missing:
        flags = " and ".join(f"--{field.replace('_', '-')}" for field in missing)
        raise UserError(
            f"{provider} needs {flags}; for example: meteor providers add {provider} --base-url {chosen.base_url} --model NAME",
            code="missing_required_parameter",
        )
    model = model or next(iter(chosen.models))
    key = chosen.key if key_env is None else key_env
    if key and chosen.key_is_optional and key_env is None and not os.environ.get(key):
        key = None
    fields: JsonObject = {"base_url": base_url or chosen.base_url, "model": model}
    fields |= {"api_key_env": key} if key else {}
    return fields | chosen.priced(model) | chosen.options


def assigned(text: str) -> tuple[str, object]:
    """FIELD=VALUE; the value as JSON where it is JSON, else as text."""
    field, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: write FIELD=VALUE", code="invalid_value")
    try:
        return field.strip(), json.loads(value)
    except ValueError:
        return field.strip(), value


def advice(provider: str, chosen: Preset, name: str, fields: JsonObject, data: Path) -> list[str]:
    """What to do next, and what to know."""
    lines = [chosen.note] if chosen.note else []
    key = fields.get("api_key_env")
    if key and not os.environ.get(key):
        lines.append(f"set the key before you start: export {key}=...")
    if "price_input" in fields and chosen.as_of and fields["model"] in chosen.models:
        lines.append(
            f"prices: {fields['price_input']} and {fields['price_output']} USD per million tokens, as of {chosen.as_of}; "
            f"check them at {chosen.prices} and give --price-input, --price-output where they have changed"
        )
    elif chosen.prices and "price_input" not in fields:
        lines.append(f"no price is known for this model, so budgets in USD do not count it; {chosen.prices}")
    state = run_state.read(data)
    restart = "restart with `meteor down` and `meteor up`" if state and state.alive else "start with `meteor up`"
    lines.append(f"{restart}, then `meteor providers test {name}`")
    if name != "default":
        lines.append(
            f'jobs name it: "teacher": {{"provider": "{name}"}}; with `--name default` every job takes it that names none'
        )
    return lines


@app.command("list")
def list_providers(as_json: Json = False, data: Data = DATA) -> None:
    """The entries of the file, and whether their keys are set here."""
    path = file_of(data)
    rows = [
        {
            "name": name,
            "model": entry.model,
            "base_url": entry.base_url,
            "key": entry.api_key_env,
            "key_is_set": bool(os.environ.get(entry.api_key_env)) if entry.api_key_env else None,
            "price_input": entry.price_input,
            "price_output": entry.price_output,
        }
        for name, entry in file.entries(path).items()
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "model", "address", "key", "USD in / out per million"):
        table.add_column(title, overflow="fold")
    for row in rows:
        key = "none" if row["key"] is None else f"{row['key']}{'' if row['key_is_set'] else ' (not set here)'}"
        prices = f"{row['price_input']:g} / {row['price_output']:g}"
        table.add_row(str(row["name"]), str(row["model"]), str(row["base_url"]), key, prices)
    text = table if rows else f"{path} has no provider; `meteor providers add PRESET` writes one"
    emit({"object": "list", "file": str(path), "data": rows}, as_json, text)


@app.command("presets")
def list_presets(as_json: Json = False) -> None:
    """The providers that `add` knows, their models, and prices with the month in which they were so."""
    rows = [{"name": name} | entry.model_dump() for name, entry in presets().items()]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("preset", "what", "models, USD in / out per million", "as of", "key"):
        table.add_column(title, overflow="fold")
    for name, entry in presets().items():
        models = ", ".join(f"{model} {price[0]:g} / {price[1]:g}" for model, price in entry.models.items())
        table.add_row(name, entry.title, models or "--model names it", entry.as_of or "", entry.key or "none")
    emit({"object": "list", "data": rows}, as_json, table)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="a name of `meteor providers list`")],
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Take an entry out of the file. The next start forgets it."""
    path = file_of(data)
    file.remove(path, name)
    emit({"name": name, "object": "provider", "deleted": True}, as_json, f"{name} removed from {path}")


def file_of(data: Path) -> Path:
    """METEOR_PROVIDERS_FILE, else the file of the data folder, whether it exists or not."""
    return providers_path(LocalSettings().providers_file, data) or data / DEFAULT_FILE
