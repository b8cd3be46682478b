#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which licence is this line from? The training loop in JAX.

jax_classifier.py FILE... [--epochs N] [--checkpoint FILE] [--stop-after STEPS]

All batches have one shape (pad.to, last: pad), so the step is compiled once; rows that only complete
the last batch have length 0 and the label -100, and weigh nothing. With --checkpoint it saves after
each step and goes on from there when it is started again, on exactly the next batch. The last line is
JSON."""
import argparse
import json
import os
import pickle
import sys
import tempfile

import jax
import numpy
import seqfeed
import seqfeed.jax
from jax import numpy as jnp

LONGEST, WIDTH = 96, 32
FEED = {"batch": {"size": 32, "last": "pad"}, "pad": {"to": LONGEST},
        "length": {"max": LONGEST, "overflow": "truncate_right"}}


def new_model(classes):
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    return {"embed": jax.random.normal(keys[0], (256, WIDTH)),
            "mix": jax.random.normal(keys[1], (5, WIDTH, WIDTH)) / (5 * WIDTH) ** 0.5,
            "score": jax.random.normal(keys[2], (WIDTH, classes)) / WIDTH ** 0.5}


def scores(model, tokens, mask):
    """A window of five bytes at each place, then the mean over the places that hold one."""
    real = mask[:, :, None]
    hidden = jnp.pad(model["embed"][tokens] * real, ((0, 0), (2, 2), (0, 0)))
    mixed = sum(hidden[:, shift:shift + tokens.shape[1]] @ model["mix"][shift] for shift in range(5))
    means = (jax.nn.relu(mixed) * real).sum(1) / jnp.maximum(real.sum(1), 1)
    return means @ model["score"]


def mean_loss(model, batch):
    real = batch["labels"] >= 0
    guess = scores(model, batch["tokens"], batch["mask"])
    each = -jax.nn.log_softmax(guess)[jnp.arange(len(real)), jnp.where(real, batch["labels"], 0)]
    right = ((guess.argmax(1) == batch["labels"]) & real).sum()
    return (each * real).sum() / real.sum(), (right, real.sum())


@jax.jit
def train_step(state, batch):
    """Adam, by hand: (state, loss, right, rows)."""
    model, first, second, step = state
    (loss, (right, rows)), slope = jax.value_and_grad(mean_loss, has_aux=True)(model, batch)
    step = step + 1
    first = jax.tree_util.tree_map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
    second = jax.tree_util.tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, second, slope)
    rate = 0.01 * jnp.sqrt(1 - 0.999 ** step) / (1 - 0.9 ** step)
    model = jax.tree_util.tree_map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8),
                                   model, first, second)
    return (model, first, second, step), loss, right, rows


def train(arguments, socket, classes):
    loader = seqfeed.jax.Loader("train", socket=socket)
    model = new_model(classes)
    zeros = jax.tree_util.tree_map(jnp.zeros_like, model)
    state, losses, shapes, right, count = (model, zeros, zeros, 0), [], set(), 0, 0
    if arguments.checkpoint and os.path.exists(arguments.checkpoint):
        with open(arguments.checkpoint, "rb") as file:
            state, place = pickle.load(file)
        loader.load_state_dict(place)
    for epoch in range(loader.epoch, arguments.epochs):
        right = count = 0
        for batch in loader:
            state, loss, hits, rows = train_step(state, batch)
            losses.append(round(float(loss), 6))
            shapes.add(batch["tokens"].shape)
            right, count = right + int(hits), count + int(rows)
            if arguments.checkpoint:
                with open(f"{arguments.checkpoint}.new", "wb") as file:
                    pickle.dump((jax.tree_util.tree_map(numpy.asarray, state), loader.state_dict()), file)
                os.replace(f"{arguments.checkpoint}.new", arguments.checkpoint)
            if int(state[3]) == arguments.stop_after:
                os._exit(9)  # as a machine that fails would: nothing is tidied up
        print(f"epoch {epoch}: {right} of {count} right", file=sys.stderr)
    return {"losses": losses, "accuracy": right / max(1, count), "chance": 1 / classes,
            "steps": int(state[3]), "shapes": len(shapes)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--checkpoint")
    parser.add_argument("--stop-after", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = os.path.join(folder, "corpus")
        seqfeed.tokenize(arguments.files, tokenizer="bytes", out=corpus, label="file")
        with seqfeed.Daemon({"feeds": {"train": {"dataset": corpus, **FEED}}}) as daemon:
            print(json.dumps(train(arguments, daemon.socket, len(arguments.files))))


if __name__ == "__main__":
    main()
