# SPDX-License-Identifier: MIT
"""A batch and its tensors: what the extension has, with the comforts that need no C."""
from __future__ import annotations

import collections.abc
import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from . import _seqfeed

if TYPE_CHECKING:
    import numpy
    import numpy.typing

    Array: TypeAlias = numpy.typing.NDArray[Any]
    Tensors = collections.abc.Mapping[str, "Tensor"]
else:
    Tensors = collections.abc.Mapping


class Ledger(NamedTuple):
    """What a batch holds and what became of the dataset's tokens, so that no trainer has to count.

    tokens_in = trained + ignored + truncated + dropped, and places = trained + ignored + padded, in each
    batch and in every sum of batches. docs/formats/ring.md defines each word."""
    sequences: int  # or pieces of them, where they are split; empty rows do not count
    tokens: int     # real ones
    places: int     # rows x padded length
    squares: int    # sum of the squares of the sequences' lengths: what attention costs
    tokens_in: int  # of the dataset, that this batch accounts for
    trained: int    # real tokens without the ignored ones
    ignored: int    # real tokens whose label does not count
    truncated: int  # cut off this batch's sequences
    dropped: int    # of the epoch, in no batch: told by the last batch of rank 0
    repeated: int   # tokens_in, if the batch stood earlier in this epoch
    rows: int       # empty ones included
    items: int      # labels that count: the denominator of a mean loss
    items_shifted: int  # the same for a model that shifts the labels itself

    @property
    def padded(self) -> int:
        """Places without a token."""
        return self.places - self.tokens


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a batch says of itself, for those who keep only its tensors."""
    epoch: int
    index: int
    cursor: str
    rows: int
    real_tokens: int
    repeated: bool
    ledger: Ledger

    @classmethod
    def of(cls, batch: Batch) -> Facts:
        return cls(**{field: getattr(batch, field) for field in FIELDS})


FIELDS = tuple(field.name for field in dataclasses.fields(Facts))


class Tensor(_seqfeed.Tensor):
    """A read-only view of one tensor of a batch.

    It has the buffer protocol and DLPack, so numpy.asarray(), memoryview() and from_dlpack() of any
    library take it without a copy. name; dtype: bool, uint8, int32, int64, float16, bfloat16 or float32;
    shape, strides (elements), nbytes, contiguous; of masks polarity ("keep", "masked", "additive") and
    fill; side of the padding; ignore of labels.

    Every view keeps the batch's slot, outlives the batch object, and never changes while it lives. Any
    thread may read it and let it go. ValueError once the batch was given back; BufferError for who wants
    to write."""
    __slots__ = ()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        # Asked when the buffer is refused: a batch that was given back must not look like an object.
        array = self.numpy()
        return array if dtype is None and not copy else array.astype(dtype or array.dtype)

    def tolist(self) -> Any:
        """The values as nested lists."""
        return memoryview(self).tolist() if self.dtype != "float16" else self.numpy().tolist()

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<seqfeed.Tensor {self.name}: {self.dtype} {list(self.shape)}>"


class Batch(_seqfeed.Batch, Tensors):
    """One batch: a mapping from names to tensors, in the configuration's order.

    epoch, index, cursor (resumes after this batch's round, on any number of ranks), rows,
    real_tokens, padded_tokens, repeated (stands earlier in this epoch, to complete a round), ledger.

    Its slot returns to the daemon when the batch and all views of it are gone; release() or the end
    of a `with` block return it at once, and raise BufferError while views live. After that its tensors
    and ledger raise ValueError; the other fields stay. Any thread. KeyError: no tensor of that name."""
    __slots__ = ()

    __getitem__ = _seqfeed.Batch.__getitem__
    __iter__ = _seqfeed.Batch.__iter__
    __len__ = _seqfeed.Batch.__len__
    __contains__ = _seqfeed.Batch.__contains__
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @property
    def ledger(self) -> Ledger:
        """What this batch holds, in numbers; until it is given back."""
        return Ledger(*self._ledger)

    def numpy(self) -> dict[str, Array]:
        """All tensors as read-only numpy arrays."""
        return {name: self[name].numpy() for name in self}

    def __repr__(self) -> str:
        if self.released:
            return f"<seqfeed.Batch {self.epoch}/{self.index}, given back>"
        names = ", ".join(f"{tensor.name}: {tensor.dtype} {list(tensor.shape)}"
                          for tensor in self.values())
        return f"<seqfeed.Batch {self.epoch}/{self.index} {names}>"
