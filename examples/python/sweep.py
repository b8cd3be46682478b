#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A sweep: four trainers try four learning rates on the very same batches.

sweep.py FILE... [--epochs N]

They attach as the four members of one group. The daemon reads, decodes and pads each batch once and
keeps one copy of it in memory, however many look at it; a slot is free when all four have released it,
so the slowest sets the pace. Each prints nothing; the last line is JSON with the loss of each rate and
a checksum over the tokens that it saw."""
import argparse
import concurrent.futures
import json
import multiprocessing
import os
import tempfile
import zlib

import seqfeed
import seqfeed.torch
import torch
from torch import nn

RATES = [0.0003, 0.003, 0.03, 0.3]
FEED = {"batch": {"size": 16}, "length": {"max": 96, "overflow": "truncate_right"}}


def train(rate, socket, epochs, classes):
    """In a process of its own: (mean loss of the last epoch, checksum, batches)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    embed, score = nn.Embedding(256 * 256, 16), nn.Linear(16, classes)
    optimizer = torch.optim.Adam([*embed.parameters(), *score.parameters()], rate)
    loader = seqfeed.torch.Loader("train", socket=socket, group="sweep", members=len(RATES))
    checksum, batches, losses = 0, 0, []
    for _ in range(epochs):
        losses = []
        for batch in loader:
            tokens, mask = batch["tokens"], batch["mask"]
            pairs = tokens[:, :-1] * 256 + tokens[:, 1:]
            seen = mask[:, 1:].unsqueeze(2)
            means = (embed(pairs) * seen).sum(1) / seen.sum(1).clamp(min=1)
            loss = nn.functional.cross_entropy(score(means), batch["labels"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            checksum = zlib.crc32(tokens.numpy(), checksum)
            batches += 1
    return sum(losses) / len(losses), checksum, batches


def sweep(arguments, socket):
    """All rates at once: a member that is missing would keep the others waiting."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(len(RATES), mp_context=spawn) as pool:
        waiting = [pool.submit(train, rate, socket, arguments.epochs, len(arguments.files))
                   for rate in RATES]
        results = [each.result() for each in waiting]
    return [{"rate": rate, "loss": loss, "checksum": checksum, "batches": batches}
            for rate, (loss, checksum, batches) in zip(RATES, results)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--socket", default=os.environ.get("SEQFEED_SOCKET"),
                        help="of a daemon that runs; else a private one is started")
    arguments = parser.parse_args()
    if arguments.socket:
        print(json.dumps(sweep(arguments, arguments.socket)))
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = os.path.join(folder, "corpus")
        seqfeed.tokenize(arguments.files, tokenizer="bytes", out=corpus, label="file")
        with seqfeed.Daemon({"feeds": {"train": {"dataset": corpus, **FEED}}}) as daemon:
            print(json.dumps(sweep(arguments, daemon.socket)))


if __name__ == "__main__":
    main()
