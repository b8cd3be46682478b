# SPDX-License-Identifier: MIT
"""A feed under the Trainer of transformers.

    class Trainer(seqfeed.hf.TrainerMixin, transformers.Trainer):
        pass

    trainer = Trainer(model=model, args=arguments, train_feed="train")
    trainer.train(resume_from_checkpoint=True)

Checkpoints hold the cursor beside the model, so that resuming gives the next batch: none is skipped
by reading it again, none comes twice. The feed's tensors have the names that models take with
`tensors: hf_classification` (input_ids, attention_mask, labels: one for each sequence), `tensors:
hf_causal_lm` (labels: the input_ids, -100 on padding; the model shifts them), or, for packed rows,
`tensors: hf_packed_lm` (position_ids and cu_seq_lens instead of a mask; the longest lengths come as
numbers, as models want them)."""
from __future__ import annotations

import json
import pathlib
import sys
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, Union

from ._attach import Feed
from .torch import Loader

STATE_NAME = "seqfeed.json"
NUMBERS = ("max_length_q", "max_length_k")  # which models take as numbers


class _Epochs:
    """The loader as Trainer is to see it: without set_epoch(), because the epochs that Trainer reckons
    from its steps are only about right, and the cursor is exact."""

    def __init__(self, loader: Loader):
        self.loader = loader
        self.length = len(loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            numbers = {name: int(batch[name]) for name in NUMBERS if name in batch}
            dict.update(batch, numbers)
            yield batch
            del batch

    def __len__(self) -> int:
        return self.length


def _let_skip() -> bool:
    """Trainer skips what it has trained of an epoch by skip_first_batches(), to count from there; a loader
    of ours stands there already, by its cursor. False: this Trainer has another way."""
    module: Any = sys.modules.get("transformers.trainer")
    skip = getattr(module, "skip_first_batches", None)
    if skip is None or getattr(skip, "knows_feeds", False):
        return skip is not None

    def skip_first_batches(loader: Any, num_batches: int = 0) -> Any:
        return loader if isinstance(loader, _Epochs) else skip(loader, num_batches)

    setattr(skip_first_batches, "knows_feeds", True)
    module.skip_first_batches = skip_first_batches
    return True


if TYPE_CHECKING:
    class _Trainer:
        """What of transformers.Trainer is met here."""
        args: Any
        state: Any
        def __init__(self, *arguments: Any, **options: Any) -> None: ...
        def get_train_dataloader(self) -> Any: ...
        def _load_from_checkpoint(self, resume_from_checkpoint: str, *_: Any, **options: Any) -> Any: ...
        def _save_checkpoint(self, model: Any, trial: Any, *_: Any, **options: Any) -> Any: ...
        def _get_output_dir(self, trial: Any) -> str: ...
else:
    _Trainer = object


class TrainerMixin(_Trainer):
    """Before Trainer among the bases; takes what Trainer takes, and two options more.

    train_feed: the name of a feed, a Feed or a seqfeed.torch.Loader; None: train_dataset, as ever. The
    batches are the feed's: per_device_train_batch_size has no say in them.
    feed_options: of attach(), where train_feed is a name; rank and world_size are Trainer's own.

    FileNotFoundError: the checkpoint to go on from was saved without a feed."""

    def __init__(self, *arguments: Any, train_feed: Union[str, Feed, Loader, None] = None,
                 feed_options: Optional[Dict[str, Any]] = None, **options: Any):
        self._feed_state: Optional[Dict[str, Any]] = None
        self._feed_options = feed_options or {}
        self._feed = train_feed
        self._feed_loader = train_feed if isinstance(train_feed, Loader) else None
        super().__init__(*arguments, **options)
        if train_feed is not None:
            # Told to ignore it counts its steps from the epoch's beginning, but reads over no batch either.
            self.args.ignore_data_skip = not _let_skip()

    def get_train_dataloader(self) -> Any:
        if self._feed is None:
            return super().get_train_dataloader()
        if self._feed_loader is None:
            assert not isinstance(self._feed, Loader)
            options: Dict[str, Any] = {} if isinstance(self._feed, Feed) else {
                "rank": self.args.process_index, "world_size": self.args.world_size,
                **self._feed_options}
            if isinstance(self._feed, str) and self._feed_state:
                options["resume"] = self._feed_state
                self._feed_state = None
            self._feed_loader = Loader(self._feed, **options)
        if self._feed_state:
            self._feed_loader.load_state_dict(self._feed_state)
            self._feed_state = None
        return _Epochs(self._feed_loader)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *arguments: Any,
                              **options: Any) -> Any:
        path = pathlib.Path(resume_from_checkpoint, STATE_NAME)
        if self._feed is not None:
            if not path.exists():
                raise FileNotFoundError(f"{path}: this checkpoint knows no place in the feed")
            self._feed_state = json.loads(path.read_text())
        return super()._load_from_checkpoint(resume_from_checkpoint, *arguments, **options)

    def _save_checkpoint(self, model: Any, trial: Any, *arguments: Any, **options: Any) -> Any:
        result = super()._save_checkpoint(model, trial, *arguments, **options)
        if self._feed_loader is not None and self.args.should_save:
            folder = pathlib.Path(self._get_output_dir(trial=trial),
                                  f"checkpoint-{self.state.global_step}")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / STATE_NAME).write_text(json.dumps(self._feed_loader.state_dict()))
        return result
