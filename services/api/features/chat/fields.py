"""Which fields of a request have an effect. What is harmless is ignored and named in a header; what would change the answer and
cannot be done is refused; unknown fields are ignored and named too."""

from typing import Any, NamedTuple

from shared.contracts.chat import GenerationRequest
from shared.contracts.errors import UserError
from shared.contracts.generation import Generation
from shared.contracts.json_types import Json

IGNORED_HEADER = "x-meteor-ignored"
CLAMPED_HEADER = "x-meteor-clamped"
LONGEST_HEADER = 1000  # characters
LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
SAMPLING = ("top_p", "top_k", "min_p")  # a caller that sets one of them wants samples
NOT_PLAIN = ("tools", "functions", "response_format", "structured_outputs", "continue_final_message")

TEXT_ONLY = "the models read and write text; leave it out, or ask for text"
STORED = "responses and conversations are not stored: send the whole conversation with each request"
OURS = "the server sets it"
# Name -> why not, and what is offered instead. A value that asks for nothing (null, false, 0, empty) is let pass,
# but for what is the engine's inside.
REFUSED = {
    "audio": TEXT_ONLY,
    "background": "answers come at once or as a stream; set stream to true for long ones",
    "best_of": "ask for n answers and choose yourself",
    "chat_template": "the template belongs to the base model; chat_template_kwargs passes its variables",
    "conversation": STORED,
    "documents": "put them into a message",
    "guided_choice": "use structured_outputs.choice",
    "guided_grammar": "use response_format with a JSON schema, or structured_outputs.regex",
    "guided_json": "use response_format with a JSON schema",
    "guided_regex": "use structured_outputs.regex",
    "previous_response_id": STORED,
    "prompt": "prompt templates are not stored here; send the text itself as instructions and input",
    "prompt_embeds": "send text",
    "suffix": "the models continue a text and do not fill gaps; send the text before as prompt",
    "use_beam_search": "a job's phase evolve searches; answers are greedy or sampled",
    "web_search_options": "the models search nothing; put what they need into a message, or offer a tool",
    "cache_salt": OURS,
    "ec_transfer_params": OURS,
    "kv_transfer_params": OURS,
    "logits_processors": OURS,
    "media_io_kwargs": TEXT_ONLY,
    "mm_processor_kwargs": TEXT_ONLY,
    "priority": OURS,
    "request_id": "send the header x-request-id",
    "vllm_xargs": OURS,
}  # fmt: skip
UNKNOWN = {name for name, why in REFUSED.items() if why == OURS} | {"chat_template", "prompt_embeds", "request_id"}
NOTHING: dict[str, tuple[Any, ...]] = {"best_of": (1,)}  # further values that ask for nothing
# Variables of chat templates that a caller may not set: the renderer's own arguments.
RENDERERS = {
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents", "messages", "padding",
    "return_assistant_tokens_mask", "return_dict", "return_tensors", "tokenize", "tokenizer", "tokenizer_kwargs", "tools",
    "truncation",
}  # fmt: skip


class Notes(NamedTuple):
    """What the headers say of a request: fields without effect, and limits that were lowered."""

    ignored: list[str]
    clamped: list[str]

    def headers(self) -> dict[str, str]:
        said = {IGNORED_HEADER: self.ignored, CLAMPED_HEADER: self.clamped}
        return {name: ", ".join(dict.fromkeys(fields))[:LONGEST_HEADER] for name, fields in said.items() if fields}


def without_effect(request: GenerationRequest) -> list[str]:
    """The fields of a request that nobody knows, or that change nothing here. Raises UserError for one that cannot be ignored."""
    stray = request.stray
    for name, value in stray.items():
        if name in UNKNOWN or (name in REFUSED and value and value not in NOTHING.get(name, ())):
            code = "unknown_parameter" if name in UNKNOWN else "unsupported_parameter"
            raise UserError(f"{name} is not supported: {REFUSED[name]}", param=name, code=code)
    modalities = stray.get("modalities")
    if isinstance(modalities, list) and set(map(str, modalities)) - {"text"}:
        raise UserError(f"modalities: {TEXT_ONLY}", param="modalities", code="unsupported_parameter")
    return sorted(name for name in stray if name.isprintable() and name.isascii() and name not in REFUSED)


def template_variables(given: Json, template: str | None) -> tuple[Json, list[str]]:
    """(the caller's chat_template_kwargs that the template reads, the names of the others). template: None where it is unknown.
    Raises UserError for the renderer's own arguments."""
    for name in given:
        if name in RENDERERS or not name.isidentifier():
            raise UserError(
                f"chat_template_kwargs.{name} is the renderer's own and cannot be set",
                param=f"chat_template_kwargs.{name}",
                code="unsupported_parameter",
            )
    read = {name: value for name, value in given.items() if template is None or name in template}
    return read, [f"chat_template_kwargs.{name}" for name in given if name not in read]


def with_defaults(body: Json, generation: Generation, plain: bool) -> Json:
    """The request as the version was evaluated, where it does not say otherwise. plain: an answer in words, which is what was
    evaluated; structured ones, and calls, have no limit of their own."""
    body = dict(body)
    if body.get("top_p") == 0:  # the likeliest token alone; the engine wants more than 0
        body |= {"top_p": 1.0, "temperature": 0.0}
    if "temperature" not in body and not any(_samples(name, body) for name in SAMPLING):
        body["temperature"] = generation.temperature
        if generation.top_p < 1:
            body.setdefault("top_p", generation.top_p)
    if generation.stop:
        body.setdefault("stop", generation.stop)
    if plain and generation.max_tokens is not None and not any(limit in body for limit in LIMITS):
        body["max_tokens"] = generation.max_tokens
    return body


def _samples(name: str, body: Json) -> bool:
    return body.get(name) not in (None, 0, -1, 1)
