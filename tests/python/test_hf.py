# SPDX-License-Identifier: MIT
"""The mixin for the Trainer of transformers; skipped where that cannot be imported."""
import pytest

transformers = pytest.importorskip("transformers", reason="no transformers here")
torch = pytest.importorskip("torch", reason="no torch here (python3-torch)")
pytest.importorskip("accelerate", reason="no accelerate here")

import seqfeed.hf  # noqa: E402  needs the above


class Model(torch.nn.Module):
    """Remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = []

    def forward(self, input_ids, attention_mask, labels):
        self.seen.append(input_ids.clone())
        guess = self.layer(attention_mask.float().sum(1, keepdim=True) / 40)
        return {"loss": ((guess[:, 0] - labels.float()) ** 2).mean(), "logits": guess}


class Trainer(seqfeed.hf.TrainerMixin, transformers.Trainer):
    pass


def train(socket, folder, steps, resume=None):
    torch.manual_seed(0)
    model = Model()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=40, save_steps=steps, report_to=[], use_cpu=True,
        disable_tqdm=True, logging_steps=1000)
    trainer = Trainer(model=model, args=arguments, train_feed="train", feed_options={"socket": socket})
    if resume is None:
        stop = transformers.TrainerCallback()
        stop.on_save = lambda args, state, control, **_: setattr(control, "should_training_stop", True)
        trainer.add_callback(stop)
    trainer.train(resume_from_checkpoint=resume)
    return model.seen


@pytest.mark.slow
def test_resume_gives_the_next_batch(start, corpus, tmp_path):
    daemon = start(corpus[1], batch={"size": 8}, tensors="hf_classification")
    feed = seqfeed.attach("train", socket=daemon.socket)
    wanted = []
    while len(wanted) < 40:  # 26 batches an epoch, so it goes on into the second
        wanted += [torch.from_numpy(batch["input_ids"].numpy().copy()) for batch in feed]
    first = train(daemon.socket, tmp_path / "run", 15)
    assert len(first) == 15
    rest = train(daemon.socket, tmp_path / "run", 15, resume=str(tmp_path / "run" / "checkpoint-15"))
    seen = first + rest
    assert len(seen) == 40
    assert all(torch.equal(one, other) for one, other in zip(seen, wanted))


class Steps(transformers.TrainerCallback):
    def __init__(self):
        self.at = []

    def on_step_end(self, args, state, control, **_):
        self.at.append((state.global_step, state.epoch))


def run(socket, folder, accumulation, epochs, resume=None):
    torch.manual_seed(0)
    model, steps = Model(), Steps()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), num_train_epochs=epochs, save_steps=1, save_strategy="steps", report_to=[],
        use_cpu=True, disable_tqdm=True, logging_strategy="no", gradient_accumulation_steps=accumulation)
    trainer = Trainer(model=model, args=arguments, train_feed="train", feed_options={"socket": socket},
                      callbacks=[steps])
    trainer.train(resume_from_checkpoint=resume)
    return steps.at, [value.clone() for value in model.state_dict().values()]


@pytest.mark.slow
@pytest.mark.parametrize("accumulation, epochs", [(1, 2), (3, 2), (4, 3)])
def test_a_resumed_run_is_the_uninterrupted_one(start, corpus, tmp_path, accumulation, epochs):
    """Its steps, its epochs and its weights, wherever it is taken up."""
    daemon = start(corpus[1], batch={"size": 16}, tensors="hf_classification")  # 13 batches
    whole, weights = run(daemon.socket, tmp_path / "whole", accumulation, epochs)
    each = -(-13 // accumulation)
    assert len(whole) == each * epochs and whole[-1][1] == epochs
    for step in sorted({1, each - 1, each, each + 1, len(whole) - 1}):
        rest, found = run(daemon.socket, tmp_path / f"rest-{step}", accumulation, epochs,
                          resume=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert rest == whole[step:], step
        assert all(torch.equal(one, other) for one, other in zip(weights, found)), step


@pytest.mark.slow
@pytest.mark.parametrize("preset, shifts", [("hf_causal_lm", True), ("hf_classification", False)])
def test_trainer_counts_what_the_ledger_says(start, corpus, tmp_path, preset, shifts):
    daemon = start(corpus[1], batch={"size": 8}, tensors=preset)
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    trainer = Trainer(model=Model(), args=arguments, train_feed="train", feed_options={"socket": daemon.socket})
    if not hasattr(trainer, "_loss_shifts_labels"):
        pytest.skip("this Trainer does not know of losses that shift")
    trainer.model_accepts_loss_kwargs, trainer._loss_shifts_labels = True, shifts
    batches = list(trainer.get_train_dataloader())
    assert len(batches) == 26
    for some in (batches[:1], batches[3:7]):  # a step may take several
        counted = sum(batch.ledger.items_shifted if shifts else batch.ledger.items for batch in some)
        assert int(trainer._get_num_items_in_batch(some, torch.device("cpu"))) == counted


def test_packed_rows_bring_their_lengths_as_numbers(start, corpus, tmp_path):
    daemon = start(corpus[1], batch={"policy": "pack", "size": 1, "length": 64}, tensors="hf_packed_lm")
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    trainer = Trainer(model=Model(), args=arguments, train_feed="train", feed_options={"socket": daemon.socket})
    for batch in trainer.get_train_dataloader():
        longest = int(batch["cu_seq_lens_q"].diff().max())
        assert (batch["max_length_q"], batch["max_length_k"]) == (longest, longest)
        assert type(batch["max_length_q"]) is int and batch["input_ids"].shape == (1, 64)


def test_a_trainer_that_skips_in_another_way_is_left_alone(monkeypatch):
    monkeypatch.setattr(transformers.trainer, "skip_first_batches", lambda loader, count=0: (loader, count))
    assert seqfeed.hf._let_skip() and seqfeed.hf._let_skip()
    assert transformers.trainer.skip_first_batches([], 3) == ([], 3)
    monkeypatch.delattr(transformers.trainer, "skip_first_batches")
    assert not seqfeed.hf._let_skip()
    assert not hasattr(transformers.trainer, "skip_first_batches")
