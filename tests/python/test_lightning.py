# SPDX-License-Identifier: MIT
"""The loader under Lightning's Trainer; skipped where Lightning cannot be imported."""
import json
import subprocess
import sys
import warnings

import harness
import pytest

torch = pytest.importorskip("torch", reason="no torch here (python3-torch)")
lightning = pytest.importorskip("lightning", reason="no lightning here")

import seqfeed.torch  # noqa: E402  needs torch

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False,
         "accelerator": "cpu", "devices": 1}


class Module(lightning.LightningModule):
    """Remembers which batches it was given."""

    def __init__(self, socket, stop_after=None):
        super().__init__()
        self.socket, self.stop_after = socket, stop_after
        self.layer = torch.nn.Linear(1, 1)
        self.seen, self.validated = [], []

    def training_step(self, batch, number):
        self.seen.append((batch.epoch, batch.index))
        guess = self.layer(batch["mask"].float().sum(1, keepdim=True) / 40)
        assert batch.ledger.sequences == batch.rows == len(guess)
        return ((guess[:, 0] - batch["labels"].float()) ** 2).mean()

    def on_train_batch_end(self, *_):
        if len(self.seen) == self.stop_after:
            self.trainer.should_stop = True

    def validation_step(self, batch, number):
        self.validated.append((batch.epoch, batch.index))

    def on_validation_epoch_start(self):
        self.validated.clear()

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            assert self.validated == [(0, index) for index in range(13)]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self):
        return seqfeed.torch.Loader("train", socket=self.socket)

    def val_dataloader(self):
        return seqfeed.torch.Loader("train", socket=self.socket, evaluate=True)


def fit(module, folder, ckpt_path=None, loader=None, max_epochs=3, **options):
    save = lightning.pytorch.callbacks.ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1,
                                                       filename="{step}")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*(resumable|dataloader|batch_size).*")
        trainer = lightning.Trainer(max_epochs=max_epochs, callbacks=[save], **QUIET, **options)
        trainer.fit(module, loader, ckpt_path=ckpt_path)
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("stop", [5, 13, 19, 26])
def test_epochs_validation_and_resume(start, corpus, tmp_path, stop):
    daemon = start(corpus[1], batch={"size": 16}, ring={"slots": 2})
    everything = [(epoch, index) for epoch in range(3) for index in range(13)]
    first = Module(daemon.socket, stop_after=stop)
    fit(first, tmp_path)
    assert first.seen == everything[:stop]
    rest = Module(daemon.socket)
    trainer = fit(rest, tmp_path / "more", ckpt_path=tmp_path / f"step={stop}.ckpt")
    assert rest.seen == everything[stop:]
    assert trainer.current_epoch == 3 and trainer.global_step == 39


@pytest.mark.slow
def test_a_part_of_the_epoch_each_time(start, corpus, tmp_path):
    daemon = start(corpus[1], batch={"size": 16})
    module = Module(daemon.socket)
    fit(module, tmp_path, limit_train_batches=6, limit_val_batches=0)
    # Three rounds of six go on where the one before ended: nothing is left out.
    assert module.seen == [(0, index) for index in range(12)] + [(0, 12)]
    whole = Module(daemon.socket)
    fit(whole, tmp_path / "more", max_epochs=4, limit_train_batches=6, limit_val_batches=0)
    assert whole.seen == module.seen + [(1, index) for index in range(6)]  # and the fourth begins the next


@pytest.mark.slow
def test_trainer_takes_a_loader(start, corpus, tmp_path):
    daemon = start(corpus[1], batch={"size": 16})
    module = Module(daemon.socket)
    fit(module, tmp_path, loader=seqfeed.torch.Loader("train", socket=daemon.socket), max_epochs=2,
        limit_val_batches=0)
    assert module.seen == [(epoch, index) for epoch in range(2) for index in range(13)]


TWO_RANKS = """
import json, sys, torch
sys.path[:0] = sys.argv[2:]
import test_lightning
lightning = test_lightning.lightning
module = test_lightning.Module(sys.argv[1])
lightning.Trainer(max_epochs=1, strategy="ddp", enable_checkpointing=False, limit_val_batches=0,
                  **{**test_lightning.QUIET, "devices": 2}).fit(module)
print(json.dumps([module.global_rank, module.seen]))
"""


@pytest.mark.slow
def test_two_ranks_are_told_by_torch(start, corpus, tmp_path):
    daemon = start(corpus[1], batch={"size": 16})
    program = tmp_path / "program.py"
    program.write_text(TWO_RANKS)
    ran = subprocess.run(
        [sys.executable, str(program), str(daemon.socket), str(harness.ROOT / "tests" / "python"),
         str(harness.ROOT / "tests" / "process")],
        capture_output=True, text=True, timeout=400, check=False,
        env=harness.environment(OMP_NUM_THREADS=1))
    assert ran.returncode == 0, ran.stderr
    said = sorted(json.loads(line) for line in ran.stdout.splitlines() if line.startswith("["))
    # The fourteenth is a repeated one, so that both ranks take equally many steps.
    assert said == [[0, [[0, index] for index in range(0, 13, 2)]],
                    [1, [[0, index] for index in range(1, 14, 2)]]], ran.stdout
