#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An exact mean over a dataset, on any number of ranks: every sequence counts once.

    seqfeed run config.yaml -- python3 evaluate.py [FEED]

One epoch is gone through. Every rank gets the same number of batches, so that none waits for another
in a collective operation; the batches that make this so stand earlier in the epoch and are flagged.
They are computed like any others (a model in training would be stepped in them too) and left out of
the sums. What a rank prints is to be added up over the ranks, by all_reduce or by hand: sums, not
means, because a mean of means is no mean.

The feed should have order.shuffle: false, or any order: it does not change the sums. batch.last must
not be drop and batch.tail not either, or sequences would be missing; with length.overflow: split the
pieces count, with truncate_left and truncate_right each sequence once. Ranks come from the environment, as torchrun,
Slurm and mpirun set it."""
import json
import sys

import seqfeed


def evaluate(batch):
    """A loss for each sequence of the batch; here its label, so that the result can be checked."""
    return batch["labels"].numpy()


def main(feed="valid"):
    total, sequences, batches, repeated = 0, 0, 0, 0
    with seqfeed.attach(feed) as loader:
        for batch in loader:
            batches += 1
            losses = evaluate(batch)
            if batch.repeated:
                repeated += 1
                continue
            count = batch.ledger.sequences  # rows of last: pad come behind them and stand for nothing
            total += int(losses[:count].sum())
            sequences += count
    print(json.dumps({"sum": total, "sequences": sequences, "batches": batches,
                      "repeated": repeated}))


if __name__ == "__main__":
    main(*sys.argv[1:])
