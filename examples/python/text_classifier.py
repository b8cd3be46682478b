#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which licence is this line from? A small attention classifier in PyTorch on real text.

text_classifier.py FILE... [--epochs N] [--step-batches G] [--checkpoint FILE] [--stop-after STEPS]

Packs the lines of the files with the file as label, starts a private daemon, and trains on bytes: the
padding mask goes into the attention, the labels come with the batch. With --checkpoint it saves after
each step and goes on from there when it is started again, on exactly the next batch.

On several ranks gradients are averaged by DistributedDataParallel; one daemon serves them all:

    seqfeed pack --text --label file -o corpus FILE...
    seqfeed run text_classifier.yaml -- torchrun --nproc-per-node 2 text_classifier.py FILE...

A training step is G batches of the epoch's one sequence, G a multiple of the ranks: each rank takes
G / ranks of them, since rank r of W is handed the batches r, r + W, ... of that sequence. So a step
has the same rows on any number of ranks, and the loss of a row is divided by the rows of the whole
step: the curve is the same but for the order in which floats are added, also when a checkpoint of two
ranks goes on with one. The last line is JSON."""
import argparse
import atexit
import contextlib
import json
import os
import sys
import tempfile

import seqfeed
import seqfeed.torch
import torch
from torch import distributed, nn

FEED = {"batch": {"size": 16}, "length": {"max": 96, "overflow": "truncate_right"}}


class Classifier(nn.Module):
    def __init__(self, classes, width=32):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.mix = nn.Conv1d(width, width, 5, padding=2)
        self.attend = nn.MultiheadAttention(width, 4, batch_first=True)
        self.score = nn.Linear(width, classes)

    def forward(self, tokens, mask):
        hidden = self.embed(tokens) * mask.unsqueeze(2)
        hidden = hidden + torch.relu(self.mix(hidden.transpose(1, 2))).transpose(1, 2)
        seen, _ = self.attend(hidden, hidden, hidden, key_padding_mask=~mask, need_weights=False)
        weight = mask.unsqueeze(2)
        return self.score(((hidden + seen) * weight).sum(1) / weight.sum(1))


def grouped(loader, count):
    """The epoch's batches, `count` at a time; the last ones may be fewer."""
    group = []
    for batch in loader:
        group.append(batch)
        if len(group) == count:
            yield group
            group = []
    if group:
        yield group


def over_ranks(*numbers):
    """Their sums over all ranks."""
    sums = torch.tensor(numbers, dtype=torch.float64)
    if distributed.is_initialized():
        distributed.all_reduce(sums)
    return sums.tolist()


def learn(model, group, ranks):
    """The gradient of the mean over the rows of all ranks' batches: (sum of losses, right, rows) of
    this rank. A repeated batch only completes the round: it weighs nothing."""
    rows = over_ranks(sum(batch.rows for batch in group if not batch.repeated))[0]
    total, right = 0.0, 0
    for batch in group:
        early = ranks > 1 and batch is not group[-1]  # gradients meet once a step
        with model.no_sync() if early else contextlib.nullcontext():
            scores = model(batch["tokens"], batch["mask"])
            loss = nn.functional.cross_entropy(scores, batch["labels"], reduction="sum")
            weight = 0 if batch.repeated else ranks / rows  # DDP divides by the ranks
            (loss * weight).backward()
        if not batch.repeated:
            total += loss.item()
            right += int((scores.argmax(1) == batch["labels"]).sum())
    return total, right, sum(batch.rows for batch in group if not batch.repeated)


def save(path, **state):
    """All of it or nothing, whenever this process may end."""
    torch.save(state, f"{path}.new")
    os.replace(f"{path}.new", path)


def train(arguments, socket, classes):
    torch.manual_seed(0)
    loader = seqfeed.torch.Loader("train", socket=socket)
    ranks = loader.feed.world_size
    if arguments.step_batches % ranks:
        raise SystemExit(f"--step-batches {arguments.step_batches} is no multiple of {ranks} ranks")
    model = Classifier(classes)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    step, losses, right, count = 0, [], 0, 0
    if arguments.checkpoint and os.path.exists(arguments.checkpoint):
        state = torch.load(arguments.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        loader.load_state_dict(state["loader"])
        step = state["step"]
    running = nn.parallel.DistributedDataParallel(model) if ranks > 1 else model
    for epoch in range(loader.epoch, arguments.epochs):
        right = count = 0
        for group in grouped(loader, arguments.step_batches // ranks):
            optimizer.zero_grad()
            total, *here = over_ranks(*learn(running, group, ranks))
            optimizer.step()
            step += 1
            losses.append(round(total / here[1], 6))
            right, count = right + here[0], count + here[1]
            if arguments.checkpoint and loader.feed.rank == 0:
                save(arguments.checkpoint, model=model.state_dict(), optimizer=optimizer.state_dict(),
                     loader=loader.state_dict(), step=step)
            if step == arguments.stop_after and loader.feed.rank == 0:
                os._exit(9)  # as a machine that fails would: nothing is tidied up
        print(f"epoch {epoch}: {right:.0f} of {count:.0f} right", file=sys.stderr)
    return {"losses": losses, "accuracy": right / max(1, count), "chance": 1 / classes, "steps": step}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--step-batches", type=int, default=2, help="of one step, over all ranks")
    parser.add_argument("--checkpoint")
    parser.add_argument("--stop-after", type=int)
    parser.add_argument("--socket", default=os.environ.get("SEQFEED_SOCKET"),
                        help="of a daemon that runs; else a private one is started")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
        atexit.register(distributed.destroy_process_group)  # else its threads may outlive us and abort
    if arguments.socket:
        print(json.dumps(train(arguments, arguments.socket, len(arguments.files))))
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = os.path.join(folder, "corpus")
        seqfeed.tokenize(arguments.files, tokenizer="bytes", out=corpus, label="file")
        with seqfeed.Daemon({"feeds": {"train": {"dataset": corpus, **FEED}}}) as daemon:
            print(json.dumps(train(arguments, daemon.socket, len(arguments.files))))


if __name__ == "__main__":
    main()
