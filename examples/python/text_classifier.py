#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which licence is this line from? A small attention classifier in PyTorch on real text.

text_classifier.py FILE... [--epochs N] [--checkpoint FILE] [--stop-after STEPS]

Packs the lines of the files with the file as label, starts a private daemon, and trains on bytes: the
padding mask goes into the attention, the labels come with the batch. With --checkpoint it saves after
each step and goes on from there when it is started again, on exactly the next batch. Under torchrun each
rank trains on its part, with gradients averaged by DistributedDataParallel; then give --socket.
The last line is JSON."""
import argparse
import json
import os
import pathlib
import sys
import tempfile

import seqfeed
import seqfeed.torch
import torch
from torch import distributed, nn

FEED = {"batch": {"size": 32}, "length": {"max": 96, "overflow": "truncate_right"}}


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


def train(arguments, socket, classes):
    torch.manual_seed(0)
    loader = seqfeed.torch.Loader("train", socket=socket)
    model = Classifier(classes)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    saved = pathlib.Path(arguments.checkpoint) if arguments.checkpoint else None
    step, losses, right, count = 0, [], 0, 0
    if saved and saved.exists():
        state = torch.load(saved)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        loader.load_state_dict(state["loader"])
        step = state["step"]
    running = nn.parallel.DistributedDataParallel(model) if distributed.is_initialized() else model
    first_epoch = loader.epoch
    for epoch in range(first_epoch, arguments.epochs):
        right = count = 0
        for batch in loader:
            scores = running(batch["tokens"], batch["mask"])
            loss = nn.functional.cross_entropy(scores, batch["labels"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            losses.append(round(float(loss), 6))
            right += int((scores.argmax(1) == batch["labels"]).sum())
            count += len(scores)
            if saved and loader.feed.rank == 0:
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                            "loader": loader.state_dict(), "step": step}, saved)
            if step == arguments.stop_after:
                os._exit(9)  # as a machine that fails would: nothing is tidied up
        print(f"epoch {epoch}: {right} of {count} right", file=sys.stderr)
    return {"losses": losses, "accuracy": right / max(1, count), "chance": 1 / classes, "steps": step}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--checkpoint")
    parser.add_argument("--stop-after", type=int)
    parser.add_argument("--socket", help="of a daemon that runs; else a private one is started")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
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
