"""How a base must be prompted, by its chat template: the prompts that come out, in the libraries of trainer and engine."""

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.api.features.chat.service import asked
from services.api.model_router import Target
from services.local.commands.models import models_prompts
from services.trainer.train import data
from services.trainer.train.model import load_tokenizer
from services.weak_model.engine import vllm as engine
from services.weak_model.settings import EngineSettings
from services.weak_model.worker.prompts import answer_messages
from shared.artifacts.bases import Bases
from shared.artifacts.chat_templates import TemplateRefused, end_ids, read_prompts, write_prompt_files
from shared.artifacts.template_text import template_text
from shared.contracts.answer_format import join_answer, split_answer
from shared.contracts.chat import ChatRequest
from shared.contracts.prompt_profile import PLAIN, PromptProfile
from shared.contracts.rows import Asked, Example, StudentPrompt
from shared.contracts.steps import ModelRef, content_hash
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.chat_templates import CASES, CHATML, QUESTION, START, TemplateCase, write_case

Folders = dict[str, Path]
ASKED = Asked(id="a", question=QUESTION)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return {name: write_case(tmp_path_factory.mktemp("base"), case) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_what_a_template_needs(name: str, folders: Folders):
    case = CASES[name]
    profile = read_prompts(folders[name], arguments=case.arguments, steps_only=True)
    assert (profile is None) == case.plain
    profile = profile or PLAIN
    assert (profile.turn_end or case.eos) == case.turn_end
    assert (profile.think is not None) == case.think
    assert profile.thought_open == case.thought_open


@pytest.mark.parametrize("name", CASES)
def test_the_trainers_prompt(name: str, folders: Folders):
    case = CASES[name]
    profile = read_prompts(folders[name], arguments=case.arguments, steps_only=True) or PLAIN
    tokenizer = load_tokenizer(folders[name], profile)
    ids = data.prompt_ids(tokenizer, ASKED)
    assert tokenizer.decode(ids) == case.prompt
    assert ids == tokenizer(case.prompt, add_special_tokens=False)["input_ids"]
    (row,) = data.example_ids(
        tokenizer, [Example(id="a", question=QUESTION, completion="It lists files.")], 512, profile
    )
    learned = [token for token in row["labels"] if token != data.IGNORED]
    closing = "</think>\n\n" if case.thought_open else ""
    assert tokenizer.decode(learned) == f"{closing}It lists files.{case.turn_end}"
    assert tokenizer.convert_tokens_to_ids(case.turn_end) in data.end_ids(tokenizer, profile)


@pytest.mark.parametrize("name", CASES)
def test_a_learned_rationale_comes_back_from_the_text_of_its_tokens(name: str, folders: Folders):
    case = CASES[name]
    profile = read_prompts(folders[name], arguments=case.arguments, steps_only=True) or PLAIN
    tokenizer = load_tokenizer(folders[name], profile)
    learned = data.completion_ids(tokenizer, join_answer("It lists names.", "ls -a"), profile)
    assert learned.count(cast(int, tokenizer.convert_tokens_to_ids(case.turn_end))) == 1
    text, unfinished = profile.without_thoughts(str(tokenizer.decode(learned)).removesuffix(case.turn_end))
    assert (*split_answer(text), unfinished) == ("It lists names.", "ls -a", False)


@cache
def engine_tokenizer(folder: Path, mode: str) -> Any:
    from vllm.tokenizers.registry import get_tokenizer

    if not (folder / "config.json").exists():  # else vLLM looks for it several times
        (folder / "config.json").write_text('{"model_type": "llama"}')
    return get_tokenizer(folder, tokenizer_mode=mode)


def rendered_by_the_engine(
    folder: Path, case: TemplateCase, messages: list[Any], run: Path, **arguments: Any
) -> list[int]:
    """By vLLM's own code, from what its command line says."""
    from vllm.renderers.chat_utils import load_chat_template, parse_chat_messages
    from vllm.renderers.hf import safe_apply_chat_template

    settings = EngineSettings(model=str(folder), served_name="base")
    bases = Bases(student_model="base", student_path=folder, student_template_args=case.arguments, students={})
    started = engine.launch(settings, run, "", True, [0], run, engine.prompts(settings, bases)).argv
    option = dict(pairwise(started))
    nothing = dict.fromkeys(["multimodal_config", "tokenizer_revision", "revision", "code_revision"])
    model: Any = SimpleNamespace(
        **nothing, enable_prompt_embeds=False, trust_remote_code=False, model=folder, tokenizer=folder
    )
    model.hf_config = SimpleNamespace(model_type="llama")
    form: Any = option["--chat-template-content-format"]
    conversation, _, _ = parse_chat_messages(messages, model, form)
    return safe_apply_chat_template(
        model,
        engine_tokenizer(folder, option["--tokenizer-mode"]),
        conversation,
        chat_template=load_chat_template(option.get("--chat-template")),
        tokenize=True,
        add_generation_prompt=True,
        **arguments,
    )


@pytest.mark.parametrize("name", CASES)
def test_the_engines_prompt_is_the_trainers(name: str, folders: Folders, tmp_path: Path):
    """For a step of the worker and for a chat: the same ids as in training."""
    case = CASES[name]
    profile = read_prompts(folders[name], arguments=case.arguments, steps_only=True) or PLAIN
    trained = data.prompt_ids(load_tokenizer(folders[name], profile), ASKED)
    step = answer_messages(StudentPrompt(id="a", question=QUESTION))
    request = ChatRequest.model_validate({"model": "base", "messages": [{"role": "user", "content": QUESTION}]})
    chat = asked(request, Target("base", "base", "base", "base"), DEFAULT_PROJECT, template_text(folders[name])).body[
        "messages"
    ]
    parts = [step[0], {"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    for messages in (step, chat, parts):
        assert rendered_by_the_engine(folders[name], case, messages, tmp_path) == trained


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One."},
    {"role": "user", "content": "Two."},
    {"role": "assistant", "content": "Three."},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "Five."},
]


@pytest.mark.parametrize("name", CASES)
def test_a_conversation_of_any_shape_is_rendered_whole(name: str, folders: Folders, tmp_path: Path):
    tokenizer = load_tokenizer(folders[name])
    text = tokenizer.decode(rendered_by_the_engine(folders[name], CASES[name], CONVERSATION, tmp_path))
    places = [text.index(message["content"]) for message in CONVERSATION]
    assert places == sorted(places)
    assert text.count("<bos>") <= 1


def test_a_requests_own_arguments_win(folders: Folders, tmp_path: Path):
    name = "thoughts unless switched off"
    ids = rendered_by_the_engine(
        folders[name],
        CASES[name],
        answer_messages(StudentPrompt(id="a", question=QUESTION)),
        tmp_path,
        enable_thinking=True,
    )
    assert "<think>" not in load_tokenizer(folders[name]).decode(ids)


@pytest.mark.parametrize("name", CASES)
def test_a_whole_model_is_prompted_as_its_base(name: str, folders: Folders, tmp_path: Path):
    """Its folder says all of it: an engine that serves it has no settings for it, and neither has who downloads it."""
    case = CASES[name]
    profile = read_prompts(folders[name], arguments=case.arguments, steps_only=True) or PLAIN
    whole = write_case(tmp_path / "whole", case)
    write_prompt_files(folders[name], whole, profile)
    again = read_prompts(whole) or PLAIN
    trained = data.prompt_ids(load_tokenizer(folders[name], profile), ASKED)
    assert data.prompt_ids(load_tokenizer(whole), ASKED) == trained
    assert data.prompt_ids(load_tokenizer(whole, again), ASKED) == trained
    assert again.turn_end == profile.turn_end
    assert end_ids(whole, again) == []  # generation_config.json names it now


def test_the_engine_stops_where_the_template_ends_a_turn(folders: Folders, tmp_path: Path):
    name = "system role raises"
    base = write_case(tmp_path / "base", CASES[name])
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 3], "repetition_penalty": 1.3}))
    settings = EngineSettings(model=str(base), served_name="base")
    profile = engine.prompts(settings, Bases(student_model="base", student_path=base, students={}))
    argv = engine.launch(settings, tmp_path, "", True, [0], tmp_path / "run", profile).argv
    assert argv[argv.index("--generation-config") + 1] == str(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "generation_config.json").read_text()) == {"eos_token_id": [0, 3, 5]}


def test_a_plain_base_is_left_alone(folders: Folders, tmp_path: Path):
    """Its reference, and so the hashes of its steps, are those from before there were profiles."""
    base = folders["chatml"]
    bases = Bases(student_model="base", student_path=base, students={})
    assert bases.ref("base").model_dump().keys() == {"base", "base_hash", "adapter"}
    settings = EngineSettings(model=str(base), served_name="base")
    argv = engine.launch(settings, tmp_path, "", True, [0], tmp_path / "run", engine.prompts(settings, bases)).argv
    assert "--chat-template" not in argv
    assert argv[argv.index("--generation-config") + 1] == "vllm"
    assert not (tmp_path / "run").exists()


def test_only_what_changes_a_steps_prompt_changes_its_hash(folders: Folders):
    """Turns that must alternate concern conversations alone: a step's turns do alternate."""
    base = folders["system text only in front of the first question"]
    text = CASES["system text only in front of the first question"].text
    checked = TemplateCase(text.replace("{% if message.role == 'user' %}", "{% if (message.role == 'user') != (loop.index0 "
        "% 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}{% if message.role == 'user' %}"))  # fmt: skip
    strict = write_case(base.parent / "strict", checked)
    assert read_prompts(strict, steps_only=True) is None
    assert read_prompts(strict) is not None


def test_a_profile_travels_with_the_student_and_changes_the_hash(folders: Folders):
    base = folders["system role raises"]
    ref = Bases(student_model="base", student_path=base, students={}).ref("base")
    assert ref.profile.turn_end == "<turn_end>"
    again = ModelRef.model_validate_json(ref.model_dump_json())
    assert again == ref
    plain = ref.model_copy(update={"prompts": None})
    assert content_hash(ref.model_dump(mode="json")) != content_hash(plain.model_dump(mode="json"))


def test_a_given_template_is_used_by_all(folders: Folders, tmp_path: Path):
    bare = write_case(tmp_path / "bare", TemplateCase("", config={"chat_template": None}))
    with pytest.raises(TemplateRefused, match="METEOR_STUDENT_TEMPLATE") as refused:
        Bases(student_model="bare", student_path=bare, students={}).ref("bare")
    assert refused.value.code == "no_chat_template"
    (tmp_path / "mine.jinja").write_text(CHATML + START)
    for given in (str(tmp_path / "mine.jinja"), f"bare={tmp_path / 'mine.jinja'}"):
        bases = Bases.model_validate(
            {"METEOR_STUDENT_MODEL": "bare", "METEOR_STUDENT_PATH": bare, "METEOR_STUDENT_TEMPLATE": given}
        )
        ref = bases.ref("bare")
        assert ref.profile.template == CHATML + START
        ids = data.prompt_ids(load_tokenizer(bare, ref.profile), ASKED)
        assert load_tokenizer(bare).decode(ids) == CASES["chatml"].prompt
        assert engine.prompts(EngineSettings(model=str(bare), served_name="bare"), bases) == ref.prompts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{% for message in messages %}", "cannot render"),
        ("{{ raise_exception('never') }}", "never"),
        ("{% for message in messages[1:] %}{{ message.text }}{% endfor %}", "leaves out"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_its_own_words(text: str, words: str, tmp_path: Path):
    base = write_case(tmp_path / "base", TemplateCase(text))
    with pytest.raises(TemplateRefused, match=words) as refused:
        read_prompts(base)
    assert refused.value.code == "bad_chat_template"
    assert "METEOR_STUDENT_TEMPLATE" in refused.value.message
    assert engine.prompts(EngineSettings(model=str(base), served_name="base"), Bases(students={})) is None


def test_a_vllm_of_ones_own_gets_the_same_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    base = write_case(tmp_path / "mine", CASES["system role raises"])
    (base / "config.json").write_text('{"model_type": "llama"}')
    (base / "model.safetensors").write_bytes(b"")
    models_prompts(str(base), tmp_path / "out", as_json=True)
    flags = json.loads(capsys.readouterr().out)["flags"]
    assert flags[2:] == [
        "--chat-template",
        str(tmp_path / "out/chat_template.jinja"),
        "--generation-config",
        str(tmp_path / "out"),
    ]
    assert (tmp_path / "out/chat_template.jinja").read_text() == (read_prompts(base) or PLAIN).template


def test_a_folder_without_a_tokenizer_has_no_profile(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    assert read_prompts(tmp_path) is None


@pytest.mark.parametrize("given", ["[1]", "{", "enable_thinking=false"])
def test_arguments_are_a_json_object(given: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_STUDENT_TEMPLATE_ARGS", given)
    with pytest.raises(ValueError, match=r"JSON object|dictionary"):
        Bases()


def test_arguments_belong_to_a_base(folders: Folders):
    base = folders["thoughts unless switched off"]
    others = {"large": folders["thoughts opened unless switched off"]}
    wanted = {"enable_thinking": True, "large": {"enable_thinking": True}}
    bases = Bases(student_model="base", student_path=base, students=others, student_template_args=wanted)
    for name in ("base", "large"):
        assert "'enable_thinking'" not in str(bases.prompts(name))
        assert "set enable_thinking = true" in (bases.ref(name).profile.template or "")
    alone = Bases(
        student_model="base", student_path=base, students=others, student_template_args={"enable_thinking": True}
    )
    assert "set enable_thinking = false" in (alone.ref("large").profile.template or "")


THINKS = PromptProfile(think=("<think>", "</think>"))
OPEN = THINKS.model_copy(update={"thought_open": True})


@pytest.mark.parametrize(
    ("profile", "text", "answer", "unfinished"),
    [
        (PLAIN, "<think>so</think> 4", "<think>so</think> 4", False),
        (THINKS, " 4 ", " 4 ", False),
        (THINKS, "<think>so</think>\n\n4", "4", False),
        (THINKS, "<think></think>4<think>or</think> 5", "4 5", False),
        (THINKS, "so</think>\n\n4", "4", False),
        (THINKS, "<think>so much", "", True),
        (THINKS, "4 <think>but", "4", True),
        (THINKS, "<think>a</think>4<think>but", "4", True),
        (OPEN, "so</think>\n\n4", "4", False),
        (OPEN, "so much", "", True),
    ],
)
def test_thoughts_are_no_part_of_an_answer(profile: PromptProfile, text: str, answer: str, unfinished: bool):
    assert profile.without_thoughts(text) == (answer, unfinished)
