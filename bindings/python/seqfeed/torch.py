# SPDX-License-Identifier: MIT
"""Batches as torch tensors.

    loader = seqfeed.torch.Loader("train")          # as attach(); also device="cuda", zero_copy=True
    for batch in loader:                            # one epoch
        loss = model(batch["tokens"], batch["mask"], batch["labels"])
        save({"model": ..., "loader": loader.state_dict()})

Tensors are ordinary and writable: one copy into a buffer that is used again once no tensor of it is
left, and the slot goes back at once, so a batch that is kept costs memory and stops nothing.
zero_copy=True hands out views instead. TO WRITE TO ONE, IN PLACE TOO, KILLS THE PROCESS: torch knows
no read-only tensors."""
from __future__ import annotations

import functools
import os
import pathlib
import platform
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NoReturn, Optional, Tuple, Union

import numpy
import torch

from . import _seqfeed
from ._attach import Feed, attach, check_feed, check_options, position
from ._batch import FIELDS, Batch, Ledger, Tensor
from ._ranks import launched

if TYPE_CHECKING:
    from ._batch import Array

DTYPES = {"bool": torch.bool, "uint8": torch.uint8, "int32": torch.int32, "int64": torch.int64,
          "float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_FROM_DLPACK = getattr(torch._C, "_from_dlpack", torch.utils.dlpack.from_dlpack)

# (name, dtype, shape, offset, bytes) of a tensor in a chunk.
Piece = Tuple[str, str, Tuple[int, ...], int, int]


class TorchBatch(Dict[str, torch.Tensor]):
    """A dictionary of tensors, so that model(**batch) works, which knows where it stands and what it
    holds: batch.ledger.items_shifted is what the loss of a causal language model is a mean over."""
    epoch: int
    index: int
    cursor: str
    rows: int
    real_tokens: int
    repeated: bool
    ledger: Ledger
    _facts: Batch  # of which the fields are taken when they are asked for

    @classmethod
    def of(cls, batch: Union[Batch, TorchBatch], tensors: Dict[str, torch.Tensor]) -> TorchBatch:
        made = cls(tensors)
        made.__dict__ = {field: getattr(batch, field) for field in FIELDS}
        return made

    if not TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any:
            if name not in FIELDS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            value = getattr(self._facts, name)
            self.__dict__[name] = value
            return value

    def __missing__(self, name: object) -> NoReturn:
        raise KeyError(f"no tensor {name!r}: this batch has {', '.join(map(str, self)) or 'none'}")

    def __getstate__(self) -> Dict[str, Any]:
        return {field: getattr(self, field) for field in FIELDS}

    def to(self, device: Union[str, torch.device], non_blocking: bool = False) -> TorchBatch:
        """The same on another device; trainers call it."""
        return TorchBatch.of(self, {name: tensor.to(device, non_blocking=non_blocking)
                                    for name, tensor in self.items()})


def view(tensor: Tensor) -> torch.Tensor:
    """A torch tensor that shares the memory of the batch. Never write to it."""
    array = numpy.asarray(tensor)
    _expect_read_only()
    if array.dtype == numpy.uint16:  # bfloat16, which numpy lacks
        return torch.from_numpy(array.view(numpy.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


@functools.cache
def _expect_read_only() -> None:
    """torch warns of memory that is not writable once in a process: let that be now, unheard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.frombuffer(bytes(1), dtype=torch.uint8)
        torch.from_numpy(numpy.frombuffer(bytes(1), numpy.uint8))


@functools.cache
def _boolean() -> Optional[torch.dtype]:
    """torch.bool for a torch whose DLPack knows no bool: it is given bytes then."""
    try:
        known = _FROM_DLPACK(torch.utils.dlpack.to_dlpack(torch.zeros(1, dtype=torch.bool))).dtype
    except RuntimeError:
        known = None
    return None if known == torch.bool else torch.bool


def _pinned(size: int) -> Any:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()


def _pinned_later(size: int) -> Any:
    """Pinned once the process uses CUDA. To be the first would make a context, on the first device
    whatever the rank, and processes that are forked later could not use CUDA."""
    return _pinned(size) if torch.cuda.is_initialized() else _seqfeed.Memory(size)


def _maker(moves: bool, on_cuda: bool) -> _seqfeed.Maker:
    later = _pinned_later if torch.backends.cuda.is_built() else None
    return _seqfeed.Maker(TorchBatch, _FROM_DLPACK, _boolean(), _pinned if on_cuda else later, moves)


# (event, memory) of loaders that are gone: copies that a device may still be reading.
_left_flying: List[Any] = []


class _Cuda:
    """Copies of whole batches to a device, on a stream of their own."""

    def __init__(self, device: torch.device):
        self.flying: List[Any] = []  # (event, memory): copies that the device may still be reading
        self.device = device
        stream: Any = torch.cuda.Stream
        self.stream = stream(device)
        self.new_event: Any = torch.cuda.Event

    def take(self, here: torch.Tensor, pieces: Tuple[Piece, ...]) -> Dict[str, torch.Tensor]:
        """The current stream waits for the copy. `here` is not used again before it has happened."""
        self.flying = [pair for pair in self.flying if not pair[0].query()]
        if _left_flying:
            _left_flying[:] = [pair for pair in _left_flying if not pair[0].query()]
        with torch.cuda.stream(self.stream):
            there = here.to(self.device, non_blocking=True)
            event = self.new_event()
            event.record(self.stream)
        self.flying.append((event, here))
        current = torch.cuda.current_stream(self.device)
        current.wait_event(event)
        there.record_stream(current)
        return {name: there[offset:offset + size].view(DTYPES[dtype]).view(shape)
                for name, dtype, shape, offset, size in pieces}

    def __del__(self, left: List[Any] = _left_flying) -> None:
        left.extend(self.flying)


def check_plans(feed: Feed) -> None:
    """Where torch.distributed runs: all ranks must have the same plan; the error names who differs."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    if distributed.get_world_size() < 2 or feed.world_size != distributed.get_world_size():
        return
    plans: List[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(plans, feed.plan)
    for rank, plan in enumerate(plans):
        if plan != plans[0]:
            differs = [f"{theirs} where rank 0 has {ours}" for theirs, ours
                       in zip(plan.split(";"), plans[0].split(";")) if theirs != ours]
            raise ValueError(f"rank {rank} has another plan: {', '.join(differs) or plan}")


def _seat(options: Dict[str, Any]) -> Dict[str, Any]:
    """The options with the place of this process among all, where torch.distributed alone knows it:
    under Lightning and torch.multiprocessing no launcher has told the environment."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()) or "rank" in options:
        return options
    told_by = launched(os.environ)
    if distributed.get_world_size() in (1, told_by.world if told_by else None):
        return options
    machine = (platform.node(), pathlib.Path("/proc/sys/kernel/random/boot_id").read_text())
    seats: List[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(seats, (machine, uuid.uuid4().hex))
    local = sum(each == machine for each, _ in seats)
    told = {"rank": distributed.get_rank(), "world_size": len(seats), "local_world_size": local}
    if local > 1:
        told.update(group=f"torch-{seats[0][1]}", members=1)
    return {**told, **options}


class Loader:
    """What a DataLoader is to a training loop: iterate for one epoch, len(), set_epoch(),
    state_dict(), load_state_dict(). One thread at a time.

    feed: a name, with the options of attach() (socket, rank, world_size, local_world_size, group, members,
    join, resume, seed, timeout), or a Feed, which is attached already and takes none. Rank and world are
    those of the launcher, else of torch.distributed.
    device: tensors are put there; with CUDA from pinned memory on a stream of their own.
    zero_copy: read-only views on the CPU instead of copies. To write to one kills the process, and each
    keeps its slot until it is let go of.
    evaluate: every `for` is the whole of epoch 0 from its beginning, wherever the one before was left;
    for validation.

    A `for` ends with the epoch and the next one is the next epoch; after load_state_dict() the first is
    the rest of one, after a `break` the next goes on. epoch is that of the next batch, so that
    `for epoch in range(loader.epoch, N)` goes on right wherever the state was saved. feed: the Feed.

    Raises what attach() raises; TypeError for options of a DataLoader, with where the same is said here;
    ValueError where ranks have different plans; RuntimeError in a worker of a DataLoader, since there is nothing that workers could do."""

    def __init__(self, feed: Union[str, Feed], *,
                 device: Optional[Union[str, torch.device]] = None, zero_copy: bool = False,
                 evaluate: bool = False, **options: Any):
        if zero_copy and device is not None and torch.device(device).type != "cpu":
            raise ValueError("zero_copy: views are in memory of the CPU, so no device")
        check_options(options, pin_memory='device="cuda" copies from pinned memory',
                      pin_memory_device='device="cuda" copies from pinned memory')
        if isinstance(feed, Feed) and options:
            raise ValueError(f"{next(iter(options))}: options belong to attach(), and it was called")
        if torch.utils.data.get_worker_info() is not None:
            raise RuntimeError("this is a worker of a DataLoader: iterate over the Loader itself, in the "
                               "training process; the daemon does what workers would")
        check_feed(feed)
        self._alone = not isinstance(feed, Feed) and "rank" not in options
        self.feed = feed if isinstance(feed, Feed) else attach(feed, **_seat(options))
        self.evaluate = evaluate
        self._device = None if device is None or torch.device(device).type == "cpu" else torch.device(device)
        self._cuda = (_Cuda(self._device) if self._device is not None and self._device.type == "cuda"
                      and torch.cuda.is_available() else None)
        self._maker = _maker(self._device is not None, self._cuda is not None)
        self._way = "next_views" if zero_copy else "next_whole" if self._cuda else "next_copies"
        check_plans(self.feed)

    def _begin(self) -> None:
        distributed = torch.distributed
        if (self._alone and self.feed.world_size == 1 and distributed.is_available()
                and distributed.is_initialized() and distributed.get_world_size() > 1):
            raise RuntimeError("this Loader was made before torch.distributed was initialised and would "
                               "give every rank all batches: make it later, or give rank= and world_size=")
        if self.evaluate and position(self.feed.cursor) != (0, 0):
            self.feed.seek("sf1;epoch=0")

    def __iter__(self) -> Iterator[TorchBatch]:
        self._begin()
        iter(self.feed)  # ends an epoch that was left after its last batch
        # Unlike a generator, this holds no batch: it goes back as soon as the loop lets go of it.
        return iter(self._next, None)

    def _next(self) -> Optional[TorchBatch]:
        try:
            got = getattr(self.feed._attachment, self._way)(self._maker, -1.0)
        except ConnectionResetError:
            got = self.feed._take_again(self._way, self._maker, -1.0)
        if got.__class__ is int:
            self.feed._ended(got)
            return None
        batch: TorchBatch = got if self._device is None else self._moved(got)
        return batch

    def _moved(self, got: Any) -> TorchBatch:
        if self._cuda:
            facts, here, pieces = got
            batch = TorchBatch(self._cuda.take(here, pieces))
        else:
            facts = got._facts
            batch = TorchBatch({name: tensor.to(self._device) for name, tensor in got.items()})
        batch._facts = facts
        self.feed._attachment.note(facts)  # not before: who was refused memory has not had it
        return batch

    def __getitem__(self, place: object) -> NoReturn:
        raise TypeError("a Loader has no places: iterate over the Loader itself; where a DataLoader was to "
                        "be made of it, it takes that one's place")

    def __len__(self) -> int:
        """Batches of the whole epoch for one rank, also where it began in the middle, so that what is
        reckoned from it (schedules, progress) is the same after a resume."""
        return self.feed.epoch_length

    @property
    def epoch(self) -> int:
        """The epoch that the next batch is of."""
        return position(self.feed.cursor)[0]

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch, unless the loader stands in it already."""
        self.feed.set_epoch(epoch)

    def state_dict(self) -> Dict[str, Any]:
        """What the loop has been given; rank 0's serves all ranks."""
        return self.feed.state_dict()

    def load_state_dict(self, state: Union[str, Dict[str, Any]]) -> None:
        """Go on after the batch that was the last one when `state` was taken."""
        self.feed.load_state_dict(state)

    def close(self) -> None:
        self.feed.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
