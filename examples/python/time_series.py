#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Forecasting time series: what is the next frame? A recurrent network on frames of floats.

time_series.py [--epochs N]

A sequence here is no row of token ids but of frames, each three 32-bit floats: noisy damped
oscillations, every series with its own frequency, damping and length. seqfeed.pack() takes the
two-dimensional arrays as they are; a batch holds frames [rows, length, 3] and a float mask
[rows, length] that the loss is multiplied with. Held-out series come from a feed of their own, in
their order. Two plain forecasts stand beside the network's error: that the next frame is like the last
one, and the best linear map of the last two, fitted to the training series. The last line is JSON."""
import argparse
import json
import os
import tempfile

import numpy
import seqfeed
import seqfeed.torch
import torch
from torch import nn

WIDTH = 3
TENSORS = {"frames": {"from": "tokens", "dtype": "float32"},
           "mask": {"mask": "lengths", "dtype": "float32"}}


def series(count, seed):
    """`count` arrays [length, WIDTH] of float32."""
    draw = numpy.random.default_rng(seed)
    for _ in range(count):
        length, turn, damp = draw.integers(20, 61), draw.uniform(0.5, 1.5), draw.uniform(0.97, 1.0)
        wave = damp ** numpy.arange(length) * numpy.exp(
            1j * (turn * numpy.arange(length) + draw.uniform(0, 2 * numpy.pi)))
        frames = numpy.stack([wave.real, wave.imag, wave.real * wave.imag], axis=1)
        yield (frames + draw.normal(0, 0.02, frames.shape)).astype(numpy.float32)


class Forecaster(nn.Module):
    """What it adds to the last frame to get the next one."""

    def __init__(self, hidden=48):
        super().__init__()
        self.walk = nn.GRU(WIDTH, hidden, batch_first=True)
        self.step = nn.Linear(hidden, WIDTH)

    def forward(self, frames):
        return frames + self.step(self.walk(frames)[0])


def error(forecast, batch):
    """(sum of squared errors over what is real, how many numbers that is)."""
    real = batch["mask"][:, 2:].unsqueeze(2)
    wrong = (forecast - batch["frames"][:, 2:]) * real
    return (wrong ** 2).sum(), real.sum() * WIDTH


def linear_fit(path):
    """The linear map of two frames that forecasts the third best, over a whole dataset."""
    frames = [each["tokens"] for each in seqfeed.Dataset(path)]
    seen = numpy.concatenate([numpy.hstack([each[1:-1], each[:-2]]) for each in frames])
    wanted = numpy.concatenate([each[2:] for each in frames])
    return torch.from_numpy(numpy.linalg.lstsq(seen, wanted, rcond=None)[0])


def evaluate(model, linear, loader):
    """Mean squared errors over the held-out series: the network's and those of the two plain ones."""
    sums, count = torch.zeros(3), 0.0
    with torch.no_grad():
        for batch in loader:
            frames = batch["frames"]
            last, two = frames[:, 1:-1], torch.cat([frames[:, 1:-1], frames[:, :-2]], dim=2)
            for number, forecast in enumerate((model(frames)[:, 1:-1], last, two @ linear)):
                wrong, real = error(forecast, batch)
                sums[number] += wrong
            count += float(real)
    return dict(zip(("network", "last", "linear"), (sums / count).tolist()))


def train(socket, train_set, epochs):
    torch.manual_seed(0)
    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    loader = seqfeed.torch.Loader("train", socket=socket)
    for _ in range(epochs):
        for batch in loader:
            wrong, real = error(model(batch["frames"])[:, 1:-1], batch)
            optimizer.zero_grad()
            (wrong / real).backward()
            optimizer.step()
    return evaluate(model, linear_fit(train_set), seqfeed.torch.Loader("held_out", socket=socket))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        train_set, held_out = os.path.join(folder, "train"), os.path.join(folder, "held_out")
        seqfeed.pack(series(1200, seed=1), train_set)
        seqfeed.pack(series(300, seed=2), held_out)
        feeds = {"train": {"dataset": train_set, "batch": {"size": 48}, "tensors": TENSORS},
                 "held_out": {"dataset": held_out, "order": {"shuffle": False}, "tensors": TENSORS}}
        with seqfeed.Daemon({"feeds": feeds}) as daemon:
            print(json.dumps(train(daemon.socket, train_set, arguments.epochs)))


if __name__ == "__main__":
    main()
