"""Observes a running training."""

import math
import time

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.spec import Spec
from services.trainer.train.progress import Reporter
from shared.contracts.errors import FatalError


class Watch(TrainerCallback):
    """Reports progress, saves checkpoints by time and by steps, and ends a training whose loss is not finite."""

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

    def on_step_end(self, args, state: TrainerState, control: TrainerControl, **_) -> None:
        every = self.spec.checkpoint_steps
        due = time.monotonic() - self.saved >= self.spec.checkpoint_every_s
        if due or (every and state.global_step % every == 0):
            control.should_save = True
            self.saved = time.monotonic()
