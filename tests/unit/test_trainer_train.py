"""Parts of the training process that need no TRL: token ids, decoding, checkpoints, errors."""

import errno
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from services.trainer.spec import Spec
from services.trainer.train import data
from services.trainer.train.decoding import Decoder, Sample
from services.trainer.train.failures import as_error
from services.trainer.train.fit import last_checkpoint
from services.trainer.train.model import load_base, load_tokenizer
from services.trainer.train.progress import Reporter
from services.trainer.train.score import mean_nll, score
from services.trainer.train.search import both_sides, search
from services.trainer.train.strategies import STRATEGIES, closest
from shared.contracts.answer_format import student_messages
from shared.contracts.errors import FatalError, TransientError, UserError
from shared.contracts.rows import Asked, Example, PreferencePair
from shared.contracts.steps import ModelRef, ScoreParams, SearchParams, StepKind, Strategy
from tests.fakes.tiny_model import make_tiny_llama

QUESTIONS = ["Which command lists files?", "How many lines?", "Find a file by its name, please, in this folder."]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The tiny model's matrices are too small to share; on a busy machine two threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("model"), seed=1)


def test_prompt_ids_are_those_of_the_engine(base: Path):
    tokenizer = load_tokenizer(base)
    for question in QUESTIONS:
        text = tokenizer.apply_chat_template(student_messages(question), tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        assert text.endswith("<|im_start|>assistant\n")
        assert (
            data.prompt_ids(tokenizer, Asked(id="a", question=question))
            == tokenizer(text, add_special_tokens=False)["input_ids"]
        )


def test_only_the_answer_and_its_end_are_learned(base: Path):
    tokenizer = load_tokenizer(base)
    (row,) = data.example_ids(tokenizer, [Example(id="a", question=QUESTIONS[0], completion="ls -l")], 512)
    learned = [token for token in row["labels"] if token != data.IGNORED]
    assert tokenizer.decode(learned) == "ls -l<|im_end|>"
    assert row["input_ids"][-len(learned) :] == learned
    assert row["labels"][: -len(learned)] == [data.IGNORED] * len(
        data.prompt_ids(tokenizer, Asked(id="a", question=QUESTIONS[0]))
    )


def test_rows_that_do_not_fit_are_dropped_whole_and_none_left_is_the_users_fault(base: Path):
    tokenizer = load_tokenizer(base)
    rows = [Example(id="a", question="q", completion="ls"), Example(id="b", question="q", completion="ls " * 100)]
    assert len(data.example_ids(tokenizer, rows, 60)) == 1
    with pytest.raises(UserError) as error:
        data.example_ids(tokenizer, rows, 10)
    assert error.value.code == "rows_too_long"
    pair = PreferencePair(id="a", question="q", chosen="ls", rejected="ls " * 100)
    with pytest.raises(UserError):
        data.pair_ids(tokenizer, [pair], 60)


def plain_generate(base: Path, prompt: list[int], beams: int, new: int) -> list[int]:
    """One prompt, no padding, no shared cache: transformers on its own."""
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    out = model.generate(input_ids=ids, attention_mask=mask, num_beams=beams, do_sample=False, max_new_tokens=new)
    answer = out[0, len(prompt) :].tolist()
    return answer[: answer.index(2)] if 2 in answer else answer


def test_decoding_from_a_shared_prefill_equals_decoding_each_prompt_alone(base: Path):
    tokenizer, model = load_tokenizer(base), load_base(base).eval()
    prompts = [data.prompt_ids(tokenizer, Asked(id="a", question=question)) for question in QUESTIONS]
    with torch.inference_mode():
        decoder = Decoder(model, tokenizer, prompts, max_new_tokens=12)
        beam, greedy = decoder.beams(4), decoder.beams(1)
        assert greedy == decoder.beams(1)
    assert [side.ids for side in greedy] == [plain_generate(base, prompt, 1, 12) for prompt in prompts]
    assert [side.ids for side in beam] == [plain_generate(base, prompt, 4, 12) for prompt in prompts]
    for side in (*beam, *greedy):
        assert side.whole == (len(side.ids) < 12), "no end token: it was cut off"
    assert beam != greedy


def search_params(strategy: Strategy, **changes: Any) -> SearchParams:
    values = {"beam_width": 3, "max_new_tokens": 8, "samples": 6, "temperature": 1.0} | changes
    return SearchParams(model=ModelRef(base="tiny", base_hash="0" * 64), strategy=strategy, **values)


def test_a_samples_likelihood_is_the_models_own(base: Path):
    tokenizer, model = load_tokenizer(base), load_base(base).eval()
    prompts = [data.prompt_ids(tokenizer, Asked(id="a", question=question)) for question in QUESTIONS]
    torch.manual_seed(0)
    with torch.inference_mode():
        drawn = Decoder(model, tokenizer, prompts, max_new_tokens=8).samples(5, temperature=1.7, top_k=100)
    assert [len(samples) for samples in drawn] == [5, 5, 5]
    whole = [
        (prompt, sample) for prompt, samples in zip(prompts, drawn, strict=True) for sample in samples if sample.ids
    ]
    for prompt, sample in whole:
        ended = len(sample.ids) < 8
        answer = [*sample.ids, tokenizer.eos_token_id] if ended else sample.ids
        assert -mean_nll(model, prompt, answer) == pytest.approx(sample.mean_logprob, abs=1e-4)


def test_every_strategy_answers_every_prompt_and_repeats_itself(base: Path):
    tokenizer, model = load_tokenizer(base), load_base(base).eval()
    prompts = [data.prompt_ids(tokenizer, Asked(id="a", question=question)) for question in QUESTIONS]
    greedy = [plain_generate(base, prompt, 1, 8) for prompt in prompts]
    for strategy in STRATEGIES:
        searches = []
        for _ in range(2):
            torch.manual_seed(1)
            searches.append(both_sides(model, tokenizer, prompts, search_params(strategy)))
        assert searches[0] == searches[1]
        high, low = searches[0]
        assert [side.ids for side in low] == greedy
        assert len(high) == 3
        assert high != low, strategy


def test_best_of_n_takes_the_likeliest_and_self_consistency_the_closest():
    far = Sample([9, 9, 9], -0.1)
    near = [Sample([1, 2, 3], -2.0), Sample([1, 2, 3, 4], -3.0), Sample([1, 2], -1.5)]
    assert closest([far, *near]).ids == [1, 2, 3]
    decoder: Any = type("Drawn", (), {"samples": lambda self, *_: [[far, *near], near]})()
    chosen = STRATEGIES[Strategy.BEST_OF_N](decoder, search_params(Strategy.BEST_OF_N))
    assert [side.ids for side in chosen] == [[9, 9, 9], [1, 2]]


@pytest.mark.parametrize("strategy", [Strategy.BEST_OF_N, Strategy.SELF_CONSISTENCY])
def test_a_sample_that_was_cut_off_is_chosen_only_where_all_were(strategy: Strategy):
    cut, other = Sample([1, 2, 3], -0.1, whole=False), Sample([1, 2], -0.2, whole=False)
    ended = Sample([7], -9.0)
    decoder: Any = type("Drawn", (), {"samples": lambda self, *_: [[cut, other, ended], [cut, other]]})()
    first, second = STRATEGIES[strategy](decoder, search_params(strategy))
    assert first == ([7], True)
    assert not second.whole


def test_what_search_cuts_off_is_said_of_each_side(base: Path, tmp_path: Path):
    tokenizer = load_tokenizer(base)
    prompts = [data.prompt_ids(tokenizer, Asked(id="a", question=question)) for question in QUESTIONS]
    spec = Spec(
        kind=StepKind.SEARCH,
        params=search_params(Strategy.BEAM, max_new_tokens=6).model_dump(mode="json"),
        rows=[{"id": str(n), "question": question} for n, question in enumerate(QUESTIONS)],
        base=base,
        adapter=None,
        output=tmp_path / "output",
        checkpoints=tmp_path / "checkpoints",
    )
    metrics = search(spec, Ticks())
    rows = json.loads((spec.output / "rows.json").read_text())
    greedy = [plain_generate(base, prompt, 1, 6) for prompt in prompts]
    assert ["rejected" in row.get("cut_off", []) for row in rows] == [len(ids) == 6 for ids in greedy]
    assert metrics["cut_off"] == sum(bool(row.get("cut_off")) for row in rows) > 0


def test_nll_is_the_loss_that_training_would_begin_with(base: Path, tmp_path: Path):
    tokenizer, model = load_tokenizer(base), load_base(base).eval()
    rows = [Example(id=str(n), question=q, completion="ls -l") for n, q in enumerate([*QUESTIONS, "x " * 600])]
    params = ScoreParams(model=ModelRef(base="tiny", base_hash="0" * 64), max_length=512)
    spec = Spec(
        kind=StepKind.SCORE,
        params=params.model_dump(mode="json"),
        rows=[row.model_dump() for row in rows],
        base=base,
        adapter=None,
        output=tmp_path / "output",
        checkpoints=tmp_path / "checkpoints",
    )
    assert score(spec, Ticks()) == {"rows": 3, "dropped_too_long": 1}
    scored = json.loads((spec.output / "rows.json").read_text())
    (first,) = data.example_ids(tokenizer, rows[:1], 512)
    batch: Any = {name: torch.tensor([first[name]]) for name in ("input_ids", "labels")}
    with torch.inference_mode():
        assert scored[0]["nll"] == pytest.approx(float(model(**batch).loss), abs=1e-4)
    assert [row["id"] for row in scored] == ["0", "1", "2"]


class Ticks(Reporter):
    def __init__(self):
        super().__init__(io.StringIO())
        self.seen: list[tuple[int, int]] = []

    def tick(self, done: int, total: int, eta_s: float | None = None, **metrics: float) -> None:
        self.seen.append((done, total))


def test_search_keeps_the_order_the_equal_pairs_and_what_an_earlier_attempt_found(base: Path, tmp_path: Path):
    spec = Spec(
        kind=StepKind.SEARCH,
        params=SearchParams(
            model=ModelRef(base="tiny", base_hash="0" * 64), beam_width=3, max_new_tokens=6, batch_size=2
        ).model_dump(mode="json"),
        rows=[{"id": str(n), "question": question} for n, question in enumerate([*QUESTIONS, "x " * 600])],
        base=base,
        adapter=None,
        output=tmp_path / "output",
        checkpoints=tmp_path / "checkpoints",
    )
    ticks = Ticks()
    metrics = search(spec, ticks)
    rows = json.loads((spec.output / "rows.json").read_text())
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    assert metrics["rows"] == 3
    assert metrics["dropped_too_long"] == 1
    assert metrics["same"] == sum(row["chosen"] == row["rejected"] for row in rows)
    assert ticks.seen == [(2, 3), (3, 3)]

    sides_file = spec.checkpoints / "sides.jsonl"
    lines = sides_file.read_text().splitlines()
    first = json.loads(lines[0])
    first[1] = [[], True]  # were it searched again, the answer would not be empty
    sides_file.write_text("\n".join([json.dumps(first), lines[1], lines[2][:-3]]))  # and the last line is torn
    search(spec, ticks)
    again = json.loads((spec.output / "rows.json").read_text())
    assert again[first[0]]["chosen"] == ""
    assert [r for n, r in enumerate(again) if n != first[0]] == [r for n, r in enumerate(rows) if n != first[0]]


def test_an_interrupted_checkpoint_is_passed_over(tmp_path: Path):
    assert last_checkpoint(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_errors_of_the_process_by_family():
    memory = as_error(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert isinstance(memory, FatalError)
    assert memory.code == "out_of_memory"
    assert "max_length" in memory.message
    unloadable = ImportError("libtorch_cpu.so: failed to map segment from shared object")
    threadless = RuntimeError("can't start new thread")
    for error in (MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"), unloadable, threadless):
        assert as_error(error).code == "out_of_memory"
    assert as_error(OSError(errno.ENOSPC, "No space left on device")).code == "disk_full"
    assert (
        as_error(RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed")).code == "disk_full"
    )
    other = as_error(RuntimeError("odd"))
    assert isinstance(other, TransientError)
    assert other.code == "training_failed"
    user = UserError("mine")
    assert as_error(user) is user


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (ValueError("Target module X is not supported"), FatalError),
        (AttributeError("no attribute 'num_experts'"), FatalError),
        (ModuleNotFoundError("No module named 'torchvision'"), FatalError),
        (RuntimeError("size mismatch for lm_head.weight"), FatalError),
        (RuntimeError("CUDA error: unspecified launch failure"), TransientError),
        (OSError("Connection reset"), TransientError),
    ],
)
def test_an_error_that_would_come_again_ends_the_step_at_once(error: Exception, family: type):
    assert isinstance(as_error(error), family)
