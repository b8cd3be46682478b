# SPDX-License-Identifier: MIT
"""seqfeed: finished training batches out of shared memory.

    import seqfeed

    for batch in seqfeed.attach("train"):       # a running seqfeedd; rank and world from the launcher
        tokens = batch["tokens"].numpy()         # a read-only view, no copy
        ...

Tensors are views of memory that the kernel lets this process read and nothing else: WRITING TO ONE
KILLS THE PROCESS wherever a library ignores that they are read-only. Copy what you want to change,
or use seqfeed.torch.Loader, whose tensors are ordinary ones.

A view keeps its batch's slot until the last one dies, so views that are kept stop the feed: it says
so with a BufferError at once.

Importing this needs neither torch nor numpy. seqfeed.torch, seqfeed.hf and seqfeed.jax are modules of
their own.
"""
from ._attach import CursorError, Drained, Feed, attach
from ._batch import Batch, Ledger, Tensor
from ._daemon import Daemon, DaemonError
from ._dataset import Column, Dataset
from ._pack import PackTotals, pack
from ._seqfeed import version as __version__
from ._tokenize import tokenize

__all__ = ["Batch", "Column", "CursorError", "Daemon", "DaemonError", "Dataset", "Drained", "Feed",
           "Ledger", "PackTotals", "Tensor", "__version__", "attach", "pack", "tokenize"]
