"""A whole job on chat rows with a system text, turns and tools: what reaches teacher, judge, training and engine, and that public chat
sends the engine the same."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import openai

from services.strong_model.worker import teach
from services.weak_model.worker import completions
from services.weak_model.worker.prompts import guide_messages, reason_messages
from services.weak_model.worker.student_client import StudentClient
from shared.contracts.conversation import tool_definition
from shared.contracts.data import Question, Split, parse_line
from shared.contracts.rows import StudentPrompt, TeacherInput
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepRequest, StepResult, StudentParams, TeachParams
from shared.platform.gateway_client import ChatReply
from tests.contract.conftest import BASE
from tests.fakes.simulated import Simulation, World
from tests.fakes.vllm import FakeVllm

TOOL = {"type": "function", "function": {"name": "stock", "parameters": {"type": "object"}}}
CALL = {"id": "call00000", "type": "function", "function": {"name": "stock", "arguments": '{"item": "tea"}'}}
SIZES = {Split.TRAIN: 12, Split.DEV: 6, Split.TEST: 4}


def turns(name: str) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": "You work for a tea shop."},
        {"role": "user", "content": f"Is there tea for {name}?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call00000", "content": "7 boxes"},
        {"role": "assistant", "content": "Yes, 7 boxes."},
        {"role": "user", "content": f"Keep one for {name}."},
    ]


def chat_rows() -> list[Question]:
    made = []
    for split, count in SIZES.items():
        for n in range(count):
            name = f"{split.value}-{n}"
            answer = {"role": "assistant", "content": f"right {name}"}
            row = {"id": name, "split": split.value, "messages": [*turns(name), answer], "tools": [TOOL]}
            question = parse_line(1, json.dumps(row).encode())
            assert isinstance(question, Question), question
            made.append(question)
    return made


class Recording(World):
    def __init__(self) -> None:
        super().__init__(0.3, train=lambda request, before: 0.7)
        self.rows: dict[StepKind, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.params: dict[StepKind, dict[str, Any]] = {}
        self.shots: list[Any] = []  # of a few-shot prompt

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        self.params[request.kind] = request.params
        for row in request.rows:
            self.shots = row.get("shots") or self.shots
            self.rows[request.kind].setdefault(row["id"], row)
        return await super().run(job, key, request, limit, on_progress)


class Gateway:
    """Keeps what is asked of it."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    async def chat(self, **asked: Any) -> ChatReply:
        self.asked = asked
        return ChatReply("Yes.", "stop", None, 1, 1, cached=False)


async def test_every_part_of_a_job_sees_the_same_conversation(client: openai.OpenAI, engine: FakeVllm, tmp_path: Path):
    world = Recording()
    evaluation = {"baselines": ["few_shot", "sft_references"], "shots": 1, "forgetting": 0}
    await Simulation(tmp_path).job(world, chat_rows(), guidance="weak", answer_tokens=77, evaluation=evaluation)

    answered = world.rows[StepKind.ANSWER]["test-0"]
    engines = [*turns("test-0")]
    engines[2] = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert answered["conversation"] == {"messages": engines, "tools": [tool_definition(TOOL)]}

    # training and search have what students are asked elsewhere
    asked = world.rows[StepKind.GUIDE] | world.rows[StepKind.REASON] | world.rows[StepKind.ANSWER]
    for kind in (StepKind.SFT, StepKind.DPO, StepKind.SEARCH):
        assert world.rows[kind]
        for name, row in world.rows[kind].items():
            assert row["conversation"]["messages"][-1] == turns(name)[-1]
            assert row["conversation"] == asked.get(name, row)["conversation"]

    # the engine gets from a step what it gets from public chat
    params = StudentParams(**world.params[StepKind.ANSWER])
    params = params.model_copy(update={"model": params.model.model_copy(update={"base": BASE, "adapter": None})})
    row = StudentPrompt(**answered)
    async with StudentClient(engine.url, "", 20, 5) as student:
        await completions.answer(student, params, [row.model_copy(update={"shots": []})], lambda *_, **__: None)
    measured = dict(engine.last)
    seed = completions.row_seed(params.sampling.seed, row.id)
    given: Any = turns("test-0")
    tools: Any = [TOOL]
    client.chat.completions.create(model=BASE, messages=given, tools=tools, max_tokens=77, temperature=0, seed=seed)
    chatted = dict(engine.last)
    assert measured["messages"] == chatted["messages"] == engines
    assert measured["tools"] == [tool_definition(tool) for tool in chatted["tools"]]
    apart = {"messages", "tools", "tool_choice", "priority", "top_p"}  # a step reads the calls out of the text itself
    assert {k: v for k, v in measured.items() if k not in apart} == {k: v for k, v in chatted.items() if k not in apart}

    # a worked example is a conversation without its system text, and its answer
    (shot,) = world.shots
    assert [turn["role"] for turn in shot] == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert shot[-1]["content"].startswith("right train-")

    # the teacher answers the last message in the assistant's place; the guideline stands below it
    taught = next(iter(world.rows[StepKind.TEACH].values()))
    gateway: Any = Gateway()
    teaching = TeachParams(**world.params[StepKind.TEACH])
    await teach.teach(gateway, teaching, [TeacherInput(**taught)], lambda *_, **__: None)
    first, *others, last = gateway.asked["messages"]
    assert first["content"].startswith("You are an expert in this field: d.")
    assert first["content"].endswith("\n\nYou work for a tea shop.")
    name = taught["id"]
    assert [turn["role"] for turn in others] == ["user", "assistant", "tool", "assistant"]
    assert others[1]["tool_calls"] == [CALL]
    assert last["content"] == (
        f"Keep one for {name}.\n\nThe learner's notes: mind the details\n\nKnown correct answer: right {name}"
    )
    assert gateway.asked["tools"] == [tool_definition(TOOL)]

    # whoever judges or writes a guideline reads all of it
    judged = next(iter(world.rows[StepKind.REVIEW].values()))
    guided = StudentPrompt(**next(iter(world.rows[StepKind.GUIDE].values())))
    for text in (judged["question"], guide_messages("d", guided)[1]["content"]):
        places = [text.index(part) for part in ("Tool: ", "tea shop", "Is there tea", '"stock"', "7 boxes", "Keep one")]
        assert places[1] < places[2] < places[4] < places[5]

    # a try of phase 2 is the conversation; where tools are offered no rationale is asked for
    tried = StudentPrompt(**next(iter(world.rows[StepKind.REASON].values())))
    assert tried.conversation is not None
    assert reason_messages("d", tried) == tried.conversation.messages
