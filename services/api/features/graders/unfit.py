"""What is wrong with a grader before it has graded anything: a file that is no database, a schema that is none, code where none is run."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from services.api.context import ProjectContext
from services.api.gateway_client import GatewayUnavailable
from shared.contracts.errors import NotFound, UserError
from shared.contracts.grader_kinds import (
    CodeTestsGrader,
    EndpointGrader,
    JsonSchemaGrader,
    PluginGrader,
    PythonGrader,
    SqlResultGrader,
    VerifyingGrader,
    models_of,
    parts_of,
)
from shared.contracts.problems import Problem
from shared.platform.public_addresses import literal, may_connect, unreadable
from shared.sandbox.confine import missing


def unfit(context: ProjectContext, param: str, given: VerifyingGrader) -> Iterator[Problem]:
    """Of the grader and those in it. param: the field that names it."""
    for grader in parts_of(given):
        yield from _unfit(context, param, grader)


def unknown_models(context: ProjectContext, param: str, given: VerifyingGrader) -> Iterator[Problem]:
    """Models that are neither a configured provider nor a provider's model. Nothing while the gateway is unavailable."""
    asked = models_of(given)
    try:
        known = context.providers.all_prices() if asked else {}
    except GatewayUnavailable:
        return
    for model in dict.fromkeys(grader.model for grader in asked):
        if model not in known:
            yield Problem(
                code="model_not_found",
                param=param,
                message=f"no strong model is configured under the name {model!r}; known: {', '.join(known) or 'none'}",
                remedy="name a configured provider or its model as the grader's `model`",
            )


def _unfit(context: ProjectContext, param: str, grader: VerifyingGrader) -> Iterator[Problem]:
    from shared.grading import plugins
    from shared.grading.json_values import checked_schema  # here: the API starts without the graders' libraries
    from shared.grading.sql import checked_database

    if isinstance(grader, SqlResultGrader):
        try:
            checked_database(context.uploads.path(context.file(grader.database).sha256))
        except (NotFound, ValueError) as error:
            yield Problem(
                code="bad_grader",
                param=f"{param}.database",
                message=f"the database {grader.database!r} of sql_result cannot be used: {error}",
                remedy="upload a SQLite file with the purpose user_data, and name the id that the answer has",
            )
    elif isinstance(grader, PythonGrader | CodeTestsGrader):
        lacks = [] if context.platform.sandbox else ["METEOR_SANDBOX=true at the api and the judge's workers"]
        if lacks := lacks or missing():
            yield Problem(
                code="sandbox_off",
                param=param,
                message=f"{grader.type} runs code, and this installation runs none: it lacks {', '.join(lacks)}",
                remedy="have the operator turn the sandbox on, or name a grader that runs no code",
            )
        elif isinstance(grader, PythonGrader):
            yield from _bad_source(param, grader)
    elif isinstance(grader, EndpointGrader) and (why := unreadable(grader.url)):
        yield Problem(
            code="bad_address",
            param=f"{param}.url",
            message=f"the address of the endpoint grader cannot be read: {why}",
            remedy="write it in ASCII (names in other scripts as xn--..., the rest percent-encoded), with a port from 1 to 65535",
        )
    elif isinstance(grader, EndpointGrader):
        address = literal(urlsplit(grader.url).hostname or "")
        if address is not None and not may_connect(address, context.platform.grader_networks):
            yield Problem(
                code="address_not_allowed",
                param=f"{param}.url",
                message=f"{address} is not a public address, and METEOR_GRADER_ALLOW does not name it",
                remedy="have the operator allow its network, or name a public address",
            )
    elif isinstance(grader, PluginGrader):
        if why := plugins.unfit(grader, context.platform.grader_plugins):
            yield Problem(
                code="grader_off",
                param=f"{param}.plugin",
                message=why,
                remedy="GET /v1/graders lists the graders that there are; the operator installs packages and sets METEOR_GRADERS at the api "
                "and the judge's workers",
            )
        else:
            yield from _bad_settings(param, grader)
    elif isinstance(grader, JsonSchemaGrader) and grader.of is not None:
        try:
            checked_schema(grader.of)
        except ValueError as error:
            yield Problem(
                code="bad_grader",
                param=f"{param}.schema",
                message=f"the schema of json_schema cannot be used: {error}",
                remedy="give a JSON schema that is complete in itself",
            )


def _bad_settings(param: str, grader: PluginGrader) -> Iterator[Problem]:
    """Its own code says so, in the process that grades."""
    from shared.grading.bounded import BoundedGrader

    try:
        with BoundedGrader(grader) as bounded:
            bounded.try_start()
    except UserError as error:
        yield Problem(
            code="bad_grader",
            param=f"{param}.settings",
            message=error.message,
            remedy="correct the settings as the package's documentation has them; else the package is broken",
        )


def _bad_source(param: str, grader: PythonGrader) -> Iterator[Problem]:
    """Compiled, never run."""
    try:
        compile(grader.source, "<grader>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield Problem(
            code="bad_grader",
            param=f"{param}.source",
            message=f"the source of the python grader cannot be compiled: {error}",
            remedy="correct it; it defines grade(sample, item), which returns a number",
        )
