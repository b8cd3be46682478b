# SPDX-License-Identifier: MIT
"""Batches as JAX arrays.

    for batch in seqfeed.jax.Loader("train"):       # one epoch; by process where there are several
        loss = step(batch["tokens"], batch["mask"])

Arrays are copies, since JAX may keep the memory of an array as long as it likes; the slot goes back
at once. Without jax_enable_x64, int64 arrives as int32, as everywhere in JAX. A batch is a plain
dictionary, which jax.jit takes as it is; loader.last tells where it stands and what it holds."""
from __future__ import annotations

from typing import Any, Dict, Iterator, Optional, Union

import jax
import numpy

from ._attach import Feed, attach, check_feed, check_options, position
from ._batch import Batch, Facts


class Loader:
    """Iterate for one epoch; len(), set_epoch(), state_dict(), load_state_dict().

    feed: a name, with the options of attach() (socket, group, members, join, resume, seed, timeout, ...), or
    a Feed; rank and world are those of JAX's processes where there are several.
    sharding: the arrays of all processes become one global array each, so
    that all batches must have one shape: pad.to a number, and last: pad. Every process then sees the
    rows of all; what `last` says is of this process's part.

    One thread at a time. Raises what attach() raises."""

    def __init__(self, feed: Union[str, Feed], *, sharding: Optional[Any] = None, **options: Any):
        check_options(options)
        check_feed(feed)
        if not isinstance(feed, Feed):
            if jax.process_count() > 1:
                options.setdefault("rank", jax.process_index())
                options.setdefault("world_size", jax.process_count())
            feed = attach(feed, **options)
        elif options:
            raise ValueError(f"{next(iter(options))}: options belong to attach(), and it was called")
        self.feed = feed
        self.sharding = sharding
        self.last: Optional[Facts] = None  # of the batch that was handed out last

    def _make(self, batch: Batch) -> Dict[str, jax.Array]:
        arrays = {name: numpy.array(batch[name].numpy()) for name in batch}
        if self.sharding is None:
            return {name: jax.device_put(array) for name, array in arrays.items()}
        make: Any = jax.make_array_from_process_local_data
        return {name: make(self.sharding, array) for name, array in arrays.items()}

    def __iter__(self) -> Iterator[Dict[str, jax.Array]]:
        iter(self.feed)  # ends an epoch that was left after its last batch
        return iter(self._next, None)

    def _next(self) -> Optional[Dict[str, jax.Array]]:
        try:
            got = self.feed._attachment.next_unmoved(-1.0)
        except ConnectionResetError:
            got = self.feed._take_again("next_unmoved", -1.0)
        if got.__class__ is int:
            self.feed._ended(got)
            return None
        arrays, facts = self._make(got), Facts.of(got)
        self.feed._attachment.note(got)  # not before: who was refused memory has not had it
        self.last = facts
        got.release()
        return arrays

    def __len__(self) -> int:
        """Batches of the whole epoch for one process, also where it began in the middle."""
        return self.feed.epoch_length

    @property
    def epoch(self) -> int:
        """The epoch that the next batch is of."""
        return position(self.feed.cursor)[0]

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch, unless the loader stands in it already."""
        self.feed.set_epoch(epoch)

    def state_dict(self) -> Dict[str, Any]:
        """What the loop has been given; process 0's serves all."""
        return self.feed.state_dict()

    def load_state_dict(self, state: Union[str, Dict[str, Any]]) -> None:
        """Go on after the batch that was the last one when `state` was taken."""
        self.feed.load_state_dict(state)

    def close(self) -> None:
        self.feed.close()
