"""Observes a running training."""

import math
import time

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.spec import Spec
from services.trainer.train import together
from services.trainer.train.progress import Reporter
from shared.contracts.errors import FatalError

SHARE = 0.05  # of a training's time goes into checkpoints, at most


class Watch(TrainerCallback):
    """Reports progress, saves checkpoints by time and by steps, and ends a training whose loss is not finite.

    A checkpoint is due after checkpoint_every_s, or later: once its time, as long as that of the last one, keeps all of them within
    SHARE. Those after so many steps are made whatever they cost.
    """

    def __init__(self, spec: Spec, reporter: Reporter):
        self.spec = spec
        self.reporter = reporter
        self.began = self.saved = time.monotonic()
        self.last_save_s = self.saving_s = 0.0
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
        every, now = self.spec.checkpoint_steps, time.monotonic()
        if together.agreed(self._is_due(now) or bool(every and state.global_step % every == 0)):
            control.should_save = True
            self.saved = now

    def _is_due(self, now: float) -> bool:
        affordable = self.saving_s + self.last_save_s <= SHARE * (now - self.began)
        return affordable and now - self.saved >= self.spec.checkpoint_every_s

    def on_save(self, args, state, control, **_) -> None:
        """The time since the step's end is the checkpoint's: a log between them takes none."""
        self.last_save_s = time.monotonic() - self.saved
        self.saving_s += self.last_save_s
