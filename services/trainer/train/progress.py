"""What the training process tells its supervisor: JSON lines on a stream that no library can write to."""

import math
import os
import sys
import time
from typing import TextIO

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.spec import Done, Failed, Line, Spec, Tick
from shared.contracts.errors import FatalError, MeteorError, TransientError, UserError

TICK_S = 0.5  # between two lines of progress


class Reporter:
    """Writes one JSON line per word; ticks at most every TICK_S."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._last_tick = 0.0

    def tick(self, done: int, total: int, eta_s: float | None = None, **metrics: float) -> None:
        now = time.monotonic()
        if done >= total or now - self._last_tick >= TICK_S:
            self._last_tick = now
            self._write(Tick(done=done, total=total, eta_s=eta_s, metrics=metrics))

    def done(self, metrics: dict) -> None:
        self._write(Done(metrics=metrics))

    def failed(self, error: MeteorError) -> None:
        family = (
            "user" if isinstance(error, UserError) else "transient" if isinstance(error, TransientError) else "fatal"
        )
        self._write(Failed(family=family, code=error.code, message=error.message, param=error.param))

    def _write(self, word: Line) -> None:
        self._stream.write(word.model_dump_json() + "\n")
        self._stream.flush()


def take_stdout() -> TextIO:
    """The process's standard output as a private stream; whatever else prints goes to standard error from now on."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "w", encoding="utf-8")


class Watch(TrainerCallback):
    """Progress, checkpoints by the clock, and an end to a training whose loss is not a number."""

    def __init__(self, spec: Spec, reporter: Reporter):
        self.spec = spec
        self.reporter = reporter
        self.began = self.saved = time.monotonic()
        self.first_step = 0
        self.first_tokens = 0
        self.loss = math.nan
        self.tokens_per_second = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_) -> None:
        self.began = self.saved = time.monotonic()
        self.first_step, self.first_tokens = state.global_step, state.num_input_tokens_seen

    def on_log(self, args, state: TrainerState, control, logs: dict | None = None, **_) -> None:
        if not logs or "loss" not in logs:
            return
        self.loss = logs["loss"]
        if not math.isfinite(self.loss):
            raise FatalError(
                f"the loss became {self.loss} at optimiser step {state.global_step}; lower the learning rate",
                code="nan_loss",
            )
        elapsed = time.monotonic() - self.began
        self.tokens_per_second = (state.num_input_tokens_seen - self.first_tokens) / elapsed
        eta = elapsed / (state.global_step - self.first_step) * (state.max_steps - state.global_step)
        metrics = {"loss": round(self.loss, 4), "tokens_per_second": round(self.tokens_per_second, 1)}
        self.reporter.tick(state.global_step, state.max_steps, eta, **metrics)

    def on_step_end(self, args, state: TrainerState, control: TrainerControl, **_) -> TrainerControl:
        every = self.spec.checkpoint_steps
        due = time.monotonic() - self.saved >= self.spec.checkpoint_every_s
        if due or (every and state.global_step % every == 0):
            control.should_save = True
            self.saved = time.monotonic()
        return control
