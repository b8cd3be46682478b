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
import sys
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Union

import numpy
import torch

from . import _seqfeed
from ._attach import Feed, attach, position
from ._batch import FIELDS, Batch, Ledger, Tensor
from ._ranks import launched

if TYPE_CHECKING:
    from ._batch import Array

ALIGN = 256
BITS = numpy.dtype(numpy.uint16)
POOL_MOST = 16  # buffers that are kept for another use

DTYPES = {"bool": torch.bool, "uint8": torch.uint8, "int32": torch.int32, "int64": torch.int64,
          "float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


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

    @classmethod
    def of(cls, batch: Union[Batch, TorchBatch], tensors: Dict[str, torch.Tensor]) -> TorchBatch:
        made = cls(tensors)
        made.__dict__ = {field: getattr(batch, field) for field in FIELDS}
        return made

    def to(self, device: Union[str, torch.device], non_blocking: bool = False) -> TorchBatch:
        """The same on another device; trainers call it."""
        return TorchBatch.of(self, {name: tensor.to(device, non_blocking=non_blocking)
                                    for name, tensor in self.items()})


def _from_numpy(array: Array) -> torch.Tensor:
    """The array as a torch tensor: quicker than torch.frombuffer(), which gives no shape."""
    if array.dtype == BITS:  # of bfloat16: numpy has no such type, old torches no uint16
        return torch.from_numpy(array.view(numpy.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def view(tensor: Tensor) -> torch.Tensor:
    """A torch tensor that shares the memory of the batch. Never write to it."""
    _expect_read_only()
    return _from_numpy(numpy.asarray(tensor))


@functools.cache
def _expect_read_only() -> None:
    """torch warns of memory that is not writable once in a process: let that be now, unheard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.frombuffer(bytes(1), dtype=torch.uint8)
        torch.from_numpy(numpy.frombuffer(bytes(1), numpy.uint8))


class _Pool:
    """Memory for copies. A buffer is free when nothing but the pool refers to it: every tensor over
    it holds a reference."""

    def __init__(self, pinned: bool):
        self.pinned = pinned
        self.buffers: List[Any] = []

    def take(self, size: int) -> Any:
        for number in range(len(self.buffers)):
            if sys.getrefcount(self.buffers[number]) == 2 and len(self.buffers[number]) >= size:
                return self.buffers[number]
        # Batches differ in length: some room, so that the next one fits too.
        room = size + size // 4
        made = (torch.empty(room, dtype=torch.uint8, pin_memory=True).numpy() if self.pinned
                else _seqfeed.Memory(room))
        self.buffers = [each for each in self.buffers if len(each) >= size][-POOL_MOST + 1:]
        self.buffers.append(made)
        return made


def _copied(tensor: Tensor, memory: Any, offset: int) -> Array:
    """A contiguous copy in memory that it keeps alive."""
    source = numpy.asarray(tensor)
    target = numpy.ndarray(source.shape, source.dtype, memory, offset)
    numpy.copyto(target, source)
    return target


class _Copier:
    """From a batch in shared memory to ordinary tensors, on the CPU or on a device."""

    def __init__(self, device: Optional[Union[str, torch.device]]):
        self.device = None if device is None else torch.device(device)
        cuda = torch.cuda.is_available()
        self.pool = _Pool(cuda)
        on_cuda = cuda and self.device is not None and self.device.type == "cuda"
        stream: Any = torch.cuda.Stream
        self.stream = stream(self.device) if on_cuda else None
        self.new_event: Any = torch.cuda.Event
        self.flying: List[Any] = []  # (event, memory): copies that the device may still be reading

    def copy(self, batch: Batch) -> TorchBatch:
        tensors = list(batch.values())
        offsets, size = [], 0
        for tensor in tensors:
            offsets.append(size)
            size += -(-tensor.nbytes // ALIGN) * ALIGN
        self.flying = [pair for pair in self.flying if not pair[0].query()]
        memory = self.pool.take(size)
        arrays = [_copied(tensor, memory, offset) for tensor, offset in zip(tensors, offsets)]
        if self.stream is not None:
            made = self._to_cuda(memory, size, tensors, offsets)
        else:
            made = {tensor.name: _from_numpy(array) for tensor, array in zip(tensors, arrays)}
            if self.device is not None and self.device.type != "cpu":
                made = {name: tensor.to(self.device) for name, tensor in made.items()}
        result = TorchBatch.of(batch, made)
        del arrays, tensors
        batch.release()
        return result

    def _to_cuda(self, memory: Any, size: int, tensors: List[Tensor],
                 offsets: List[int]) -> Dict[str, torch.Tensor]:
        """One copy of the whole batch on a side stream; the current stream waits for it."""
        with torch.cuda.stream(self.stream):
            there = torch.from_numpy(memory)[:size].to(self.device, non_blocking=True)
            event = self.new_event()
            event.record(self.stream)
        self.flying.append((event, memory))
        current = torch.cuda.current_stream(self.device)
        current.wait_event(event)
        there.record_stream(current)
        return {tensor.name: there[offset:offset + tensor.nbytes].view(DTYPES[tensor.dtype]).view(
                    tensor.shape) for tensor, offset in zip(tensors, offsets)}


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

    feed: a name, with the options of attach(), or a Feed. Rank and world are those of the launcher,
    else of torch.distributed. device: tensors are put there; with CUDA from pinned memory on a stream
    of their own. zero_copy: read-only views on the CPU instead. evaluate: every `for` is the whole of
    epoch 0 from its beginning, wherever the one before was left; for validation.

    Raises what attach() raises; ValueError where ranks have different plans; RuntimeError in a
    worker of a DataLoader, since there is nothing that workers could do."""

    def __init__(self, feed: Union[str, Feed], *,
                 device: Optional[Union[str, torch.device]] = None, zero_copy: bool = False,
                 evaluate: bool = False, **options: Any):
        if zero_copy and device is not None and torch.device(device).type != "cpu":
            raise ValueError("zero_copy: views are in memory of the CPU, so no device")
        if isinstance(feed, Feed) and options:
            raise ValueError(f"{next(iter(options))}: options belong to attach(), and it was called")
        if torch.utils.data.get_worker_info() is not None:
            raise RuntimeError("this is a worker of a DataLoader: iterate over the Loader itself, in the "
                               "training process; the daemon does what workers would")
        self._alone = not isinstance(feed, Feed) and "rank" not in options
        self.feed = feed if isinstance(feed, Feed) else attach(feed, **_seat(options))
        self.evaluate = evaluate
        self._copier = None if zero_copy else _Copier(device)
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
        # Unlike a generator, map() holds no batch: it goes back as soon as the loop lets go of it.
        return map(self._make, self.feed)

    def _make(self, batch: Batch) -> TorchBatch:
        if self._copier:
            return self._copier.copy(batch)
        return TorchBatch.of(batch, {name: view(batch[name]) for name in batch})

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

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Go on after the batch that was the last one when `state` was taken."""
        self.feed.load_state_dict(state)

    def close(self) -> None:
        self.feed.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
