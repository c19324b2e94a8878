"""An optimiser step as several passes over parts of its rows, fewer rows at once where memory runs out. The gradient stays the same."""

import gc
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import Trainer

from services.trainer.train import packing, passes, processes, room, together
from services.trainer.train.failures import is_out_of_memory, out_of_memory
from services.trainer.train.model import device, held_whole
from services.trainer.train.packing import Decision
from services.trainer.train.passes import ByRows, ByTokens, Division, Pass
from shared.contracts.errors import MeteorError, TransientError

CHECKPOINTING = {"use_reentrant": False}  # the other kind needs gradients at the embeddings, which an adapter lacks
# Per pass on a CPU: more tokens at once are hardly faster there, and cost 2 MB each.
CPU_TOKENS = 512
FITTING = "at_once.json"  # beside the checkpoints


class StepInPasses(Trainer):
    """Stands before TRL's trainer, which computes the loss of one pass. The data loader gives whole steps.

    sides: blocks of rows in a batch, 2 for pairs. alone: each row has a pass of its own. With several processes each takes every
    n-th pass; their gradients are added. A pass that does not fit ends the attempt: the step begins anew with passes of half the
    size, then with gradient checkpointing. Where processes hold the model in parts, the training begins anew instead, from its
    checkpoint: the others wait for a layer that never comes.
    """

    division: Division | None = None
    may_pack: bool | None = None
    packed: Decision | None = None
    sides = 1
    alone = False

    def get_train_dataloader(self) -> DataLoader:
        """Whole steps, the same for every process, on the host: a pass goes to the device when its turn comes."""
        rows = self._remove_unused_columns(cast(Dataset, self.train_dataset), description="training")
        loader = DataLoader(
            cast(Any, rows),
            batch_size=self._train_batch_size,
            sampler=self._get_train_sampler(cast(Any, rows)),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return prepare_data_loader(
            loader,
            num_processes=1,
            process_index=0,
            put_on_device=False,
            use_seedable_sampler=True,  # a random order that only seed and epoch decide
            data_seed=self.args.data_seed,
        )

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        if self.packed is None:
            self.packed = packing.decide(cast(Any, self.model), self._two_rows(), self.may_pack)
        division = self.division = self.division or self._divide(model)
        lengths = passes.lengths(inputs, self.sides, self._is_padded)
        before = self._figures_so_far()
        random = torch.random.get_rng_state()
        while True:
            parts, loss = division.passes(lengths), None
            try:
                loss = self._run(model, inputs, parts, num_items_in_batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.is_distributed_loading_by_transformers:
                    raise self._less_next_time(division) from error
            # outside of `except`: its traceback holds the tensors of the attempt
            if together.everywhere(loss is not None):
                break
            self._forget(model, before)
            torch.random.set_rng_state(random)
            if not division.halve() and not checkpoint_activations(cast(torch.nn.Module, self.model)):
                raise out_of_memory(", one row at a time and with gradient checkpointing too")
        return together.add_up(self, cast(torch.Tensor, loss), self.figures, len(parts), before)

    def _run(self, model: Any, inputs: dict[str, Any], parts: Sequence[Pass], items: Any) -> torch.Tensor:
        """The step's loss of this process's passes, whose gradients it accumulates."""
        total: torch.Tensor | None = None
        own = together.share(parts)
        with together.apart(self, model):
            for part in own:
                self.current_gradient_accumulation_steps = cast(
                    int, 1 / part.share
                )  # a mean over rows is divided by it
                self._before(part, inputs)
                rows = passes.cut(inputs, part, self.sides)
                with packing.packed(self.packed.packing if self.packed else None, rows[passes.MASK]):
                    loss = super().training_step(model, rows, items)
                total = loss if total is None else total + loss
            if self.is_distributed_loading_by_transformers and len(own) < -(-len(parts) // processes.count()):
                self._accompany(model, inputs, parts[0])
        return torch.zeros((), device=self.args.device) if total is None else total

    def _accompany(self, model: Any, inputs: dict[str, Any], part: Pass) -> None:
        """A pass without a gradient, beside the last one of other processes, which gather the model's parts for it."""
        before, rows = self._figures_so_far(), passes.cut(inputs, part._replace(stop=part.start + 1), self.sides)
        model.train()
        with packing.packed(self.packed.packing if self.packed else None, rows[passes.MASK]):
            with self.compute_loss_context_manager():
                loss = self.compute_loss(model, self._prepare_inputs(rows))
            self.accelerator.backward(loss * 0)
        self._forget_figures(before)

    def _before(self, part: Pass, inputs: dict[str, Any]) -> None:
        """For a loss that is neither a sum over tokens nor a mean over rows."""

    def _divide(self, model: Any) -> Division:
        """What is known of the rows says how a CPU divides a step; a GPU is measured."""
        batch, lengths = self._train_batch_size, self._row_tokens()
        longest = max(lengths)
        if self.is_distributed_loading_by_transformers:  # what does not fit cannot be tried again without the others
            checkpoint_activations(cast(torch.nn.Module, self.model))
        if self.alone:
            return ByRows(1)
        return self._as_it_fitted(self._measure(model, batch, longest, lengths))

    def _measure(self, model: Any, batch: int, longest: int, lengths: list[int]) -> Division:
        measured, most = meter(), -(-batch // processes.count())  # so that every process has something to do
        if measured is None:
            return ByRows(micro_batch(batch, longest, CPU_TOKENS), most)
        dataset = cast(Dataset, self.train_dataset)
        row = self._remove_unused_columns(dataset, description="training")[lengths.index(longest)]

        def attempt(rows: int) -> None:
            self._run(model, self.data_collator([row] * rows), [Pass(0, rows, 1.0, 0, rows)] * processes.count(), None)

        def fitting() -> int:
            if self.is_distributed_loading_by_transformers:
                return room.rows_together(attempt, measured, most, self._bytes_to_come(), together.least)
            return together.least(room.rows_that_fit(attempt, measured, most, self._bytes_to_come()))

        before = self._figures_so_far()
        rows = fitting()
        if rows * longest < min(room.ENOUGH, most * longest) and checkpoint_activations(
            cast(torch.nn.Module, self.model)
        ):
            rows = fitting()
        self._forget(model, before)
        if not rows:
            raise out_of_memory(", one row at a time and with gradient checkpointing too")
        return ByTokens(rows * longest, longest, self._is_padded)

    def _row_tokens(self) -> list[int]:
        """Of each row as it is computed: of a pair both sides, padded each as long as the longer one."""
        dataset = cast(Dataset, self.train_dataset)
        if self.sides == 1:
            return [len(ids) for ids in dataset["input_ids"]]
        columns = (dataset[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
        sides = (
            (len(prompt) + len(one), len(prompt) + len(other)) for prompt, one, other in zip(*columns, strict=True)
        )
        return [2 * max(both) if self._is_padded else sum(both) for both in sides]

    def _two_rows(self) -> list[list[int]]:
        """The first and the last, the only one twice; of pairs the chosen side."""
        dataset = cast(Dataset, self.train_dataset)
        ends = dataset[0], dataset[-1]
        return [row["input_ids"] if self.sides == 1 else row["prompt_ids"] + row["chosen_ids"] for row in ends]

    @property
    def _is_padded(self) -> bool:
        return self.packed is None or self.packed.packing is None

    def _bytes_to_come(self) -> int:
        """Of the optimiser's moments, which its first step makes."""
        trained = sum(
            weight.numel() for weight in cast(torch.nn.Module, self.model).parameters() if weight.requires_grad
        )
        return trained * (2 if "8bit" in self.args.optim else 8)

    @property
    def figures(self) -> dict[str, list[Any]]:
        """What TRL gathered of each pass since the last log."""
        return cast(Any, self)._metrics["train"]

    def _figures_so_far(self) -> dict[str, int]:
        return {name: len(values) for name, values in self.figures.items()}

    def _forget(self, model: torch.nn.Module, before: dict[str, int]) -> None:
        """What an attempt left: gradients, figures, freed memory that the allocator still holds."""
        model.zero_grad()
        self._forget_figures(before)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _forget_figures(self, before: dict[str, int]) -> None:
        for name, values in self.figures.items():
            del values[before.get(name, 0) :]

    def _less_next_time(self, division: Division) -> MeteorError:
        """What ends this process, and with it the others. The step's next attempt takes half as much at once."""
        if not division.halve():
            return out_of_memory(", one row at a time and with gradient checkpointing too")
        self._fitting.write_text(json.dumps(division.describe()))
        return TransientError(
            "memory ran out on one of the devices that hold the model together; the training goes on from its checkpoint and takes half "
            "as much at once",
            code="out_of_memory",
        )

    def _as_it_fitted(self, division: Division) -> Division:
        """Not more at once than an earlier attempt at this training left."""
        most = json.loads(self._fitting.read_text()) if self._fitting.exists() else {}
        while any(value > most.get(name, value) for name, value in division.describe().items()) and division.halve():
            pass
        return division

    @property
    def _fitting(self) -> Path:
        return Path(str(self.args.output_dir)) / FITTING

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The first process alone saves, so nothing is gathered."""
        if self.is_distributed_loading_by_transformers:
            state_dict = held_whole(cast(torch.nn.Module, self.model))
        super()._save(output_dir, state_dict)

    def _sync_replicated_trainable_parameters(self, model: torch.nn.Module) -> None:
        """Nothing: gradients of an adapter are added once per step, which the library would average in each pass."""

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        """Every process sees a step's rows, on the host: nothing to gather, nothing to wait for."""
        self.state.num_input_tokens_seen += int(inputs[passes.MASK].sum())


def meter() -> room.Meter | None:
    """None where nothing says how much memory a pass takes."""
    return room.CudaMeter() if device().type == "cuda" else None


def checkpoint_activations(model: torch.nn.Module) -> bool:
    """Compute activations again instead of keeping them. False where the model does so already, or cannot."""
    own = cast(Any, model)
    if not getattr(own, "supports_gradient_checkpointing", False) or own.is_gradient_checkpointing:
        return False
    own.gradient_checkpointing_enable(gradient_checkpointing_kwargs=CHECKPOINTING)
    return True


def micro_batch(batch_size: int, longest: int, tokens: int) -> int:
    """Rows per pass: the largest divisor of batch_size whose padded batch has at most so many tokens."""
    fitting = [n for n in range(1, batch_size + 1) if batch_size % n == 0 and n * longest <= tokens]
    return max(fitting, default=1)
