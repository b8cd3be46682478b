# SPDX-License-Identifier: MIT
"""The loader for torch; skipped where torch cannot be imported."""
import os
import socket
import subprocess
import sys

import pytest
import seqfeed

torch = pytest.importorskip("torch", reason="no torch here (python3-torch)")

import seqfeed.torch  # noqa: E402  needs torch

TENSORS = {"tokens": {"from": "tokens", "dtype": "int64"}, "small": {"from": "tokens", "dtype": "int32"},
           "mask": {"mask": "lengths"}, "half": {"mask": "lengths", "dtype": "float16"},
           "brain": {"mask": "lengths", "dtype": "bfloat16"}, "full": {"mask": "lengths", "dtype": "float32"},
           "bytes": {"mask": "lengths", "dtype": "uint8"}, "lengths": {"from": "lengths"}}


@pytest.mark.parametrize("zero_copy", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_equal_pad_sequence(start, corpus, side, zero_copy):
    rows, dataset = corpus
    daemon = start(dataset, order={"shuffle": False}, batch={"size": 16}, pad={"side": side},
                   tensors=TENSORS)
    loader = seqfeed.torch.Loader("train", socket=daemon.socket, zero_copy=zero_copy)
    assert len(loader) == 13
    for number, batch in enumerate(loader):
        part = [torch.tensor(row["tokens"]) for row in rows[16 * number:16 * number + 16]]
        if side == "right":
            tokens = torch.nn.utils.rnn.pad_sequence(part, batch_first=True)
        else:
            tokens = torch.nn.utils.rnn.pad_sequence([row.flip(0) for row in part],
                                                     batch_first=True).flip(1)
        lengths = torch.tensor([len(row) for row in part])
        places = torch.arange(tokens.shape[1])
        mask = places.unsqueeze(0) < lengths.unsqueeze(1)
        mask = mask if side == "right" else mask.flip(1)
        for name, wanted in (("tokens", tokens), ("small", tokens.int()), ("mask", mask),
                             ("half", mask.half()), ("brain", mask.bfloat16()),
                             ("full", mask.float()), ("bytes", mask.byte()), ("lengths", lengths)):
            assert batch[name].dtype == wanted.dtype and torch.equal(batch[name], wanted), name
        assert batch.index == number and batch.rows == len(part)


def test_tensors_are_ordinary_and_buffers_are_used_again(start, corpus):
    daemon = start(corpus[1], batch={"size": 4}, ring={"slots": 2})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    kept = [(batch["tokens"], batch["tokens"].clone()) for batch in loader]  # far more than slots
    assert len(kept) == 51 and all(torch.equal(one, other) for one, other in kept)
    del kept
    places = set()
    for batch in loader:
        batch["tokens"].add_(1)
        places.add(batch["tokens"].data_ptr())
    assert len(places) < 12  # not 51
    row = batch["labels"][:1]
    del batch
    before = row.clone()
    for batch in loader:
        pass
    assert torch.equal(row, before)  # one view of one tensor keeps its buffer


def test_options_of_a_dataloader_are_answered(start, corpus):
    daemon = start(corpus[1])
    for name, said in (("batch_size", r"setting of the feed.*batch: \{size: N\} in the daemon's"), ("shuffle", "order: "),
                       ("num_workers", "no workers.*threads"), ("generator", "seed="), ("pin_memory", "device="),
                       ("word_size", "did you mean 'world_size'"), ("evaluat", "did you mean 'evaluate'"),
                       ("colour", "no option of a Loader.*attach.*: socket, rank, ")):
        with pytest.raises(TypeError, match=f"^{name}: .*{said}"):
            seqfeed.torch.Loader("train", socket=daemon.socket, **{name: 3})
    with seqfeed.torch.Loader("train", socket=daemon.socket, timeout=9, seed=3) as loader:
        batch = next(iter(loader))
    with pytest.raises(KeyError, match="no tensor 'nothing': this batch has tokens, mask, labels, lengths"):
        batch["nothing"]
    assert batch.get("nothing") is None and batch.pop("nothing", 3) == 3 and "nothing" not in batch
    with pytest.raises(KeyError, match="this batch has none"):
        seqfeed.torch.TorchBatch()["tokens"]


def test_what_is_no_feed(start, corpus):
    with pytest.raises(TypeError, match="^feed: .*not a Dataset"):
        seqfeed.torch.Loader(seqfeed.Dataset(corpus[1]))
    loader = seqfeed.torch.Loader("train", socket=start(corpus[1], batch={"size": 8}).socket)
    with pytest.raises(TypeError, match="iterate over the Loader itself"):
        next(iter(torch.utils.data.DataLoader(loader)))


def test_zero_copy_shares_the_slot(start, corpus):
    daemon = start(corpus[1], batch={"size": 4}, ring={"slots": 4})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket, zero_copy=True)
    kept = []
    with pytest.raises(BufferError, match="holds all 4 batches"):
        for batch in loader:
            kept.append(batch["mask"])
    with pytest.raises(ValueError, match="no device"):
        seqfeed.torch.Loader("train", socket=daemon.socket, zero_copy=True, device="cuda")


def test_state_goes_on_exactly(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    everything = [batch["tokens"] for batch in seqfeed.torch.Loader("train", socket=daemon.socket)]
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    for batch in loader:
        if batch.index == 6:
            break
    state = loader.state_dict()
    other = seqfeed.torch.Loader("train", socket=daemon.socket)
    other.load_state_dict(state)
    rest = [batch["tokens"] for batch in other]
    assert len(rest) == len(everything) - 7
    assert all(torch.equal(one, two) for one, two in zip(rest, everything[7:]))


def test_to_evaluate_begins_anew_each_time(start, corpus):
    daemon = start(corpus[1], batch={"size": 16})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket, evaluate=True)
    first = next(iter(loader))
    for _ in range(3):
        seen = [(batch.epoch, batch.index, int(batch["tokens"].sum())) for batch in loader]
        assert [each[:2] for each in seen] == [(0, index) for index in range(13)]
        assert seen[0][2] == int(first["tokens"].sum())


def test_a_batch_knows_its_ledger_on_any_device(start, corpus):
    daemon = start(corpus[1], batch={"size": 16}, tensors="hf_causal_lm")
    for batch in seqfeed.torch.Loader("train", socket=daemon.socket):
        moved = batch.to("meta")
        assert isinstance(moved, seqfeed.torch.TorchBatch) and moved["labels"].device.type == "meta"
        for each in (batch, moved):
            assert each.ledger.tokens == int(batch["attention_mask"].sum()) == each.real_tokens
            assert each.ledger.items == int((batch["labels"] != -100).sum())
            assert each.ledger.items_shifted == int((batch["labels"][:, 1:] != -100).sum())
            assert each.index == batch.index and each.cursor == batch.cursor


IN_WORKERS = """
import sys, torch, seqfeed.torch

class Wrapped(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(seqfeed.torch.Loader("train", socket=sys.argv[1]))

def batches(**options):
    return len(list(torch.utils.data.DataLoader(Wrapped(), batch_size=None, **options)))

if __name__ == "__main__":
    print(batches())  # in this process it may stand in one
    try:
        batches(num_workers=1, multiprocessing_context=sys.argv[2])
    except RuntimeError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader_are_refused(start, corpus, tmp_path, method):
    daemon = start(corpus[1], batch={"size": 16})
    (tmp_path / "program.py").write_text(IN_WORKERS)
    ran = subprocess.run([sys.executable, str(tmp_path / "program.py"), str(daemon.socket), method],
                         capture_output=True, text=True, timeout=300, check=False)
    assert ran.stdout.startswith("13\n"), ran.stderr
    assert "iterate over the Loader itself" in ran.stdout, ran


TWO_RANKS = """
import atexit, sys, torch, seqfeed, seqfeed.torch
from torch import distributed
distributed.init_process_group("gloo")
atexit.register(distributed.destroy_process_group)
rank = distributed.get_rank()
try:
    loader = seqfeed.torch.Loader("train", socket=sys.argv[1 + rank])
except ValueError as error:
    print(error)
    sys.exit(3)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
seen = []
for batch in loader:
    model(batch["lengths"].float().unsqueeze(1)).sum().backward()
    seen.append(batch.index)
print(rank, seen[:3], len(seen), len(loader))
"""


def two_ranks(sockets, code=TWO_RANKS):
    """[(standard output, standard error, exit code)] of two processes under gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                   "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen([sys.executable, "-c", code, *map(str, sockets)], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**environment, "RANK": str(rank)}) for rank in range(2)]
    return [(*process.communicate(timeout=300), process.returncode) for process in running]


@pytest.mark.slow
def test_two_ranks_with_gloo(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    ran = two_ranks([daemon.socket] * 2)
    assert [code for _, _, code in ran] == [0, 0], ran
    assert [said.strip() for said, _, _ in ran] == ["0 [0, 2, 4] 13 13", "1 [1, 3, 5] 13 13"]


@pytest.mark.slow
def test_a_rank_with_another_plan_is_named(start, corpus):
    one, other = start(corpus[1], batch={"size": 8}), start(corpus[1], batch={"size": 16})
    # Two daemons, so the ranks cannot share a stream: each attaches with a seat of its own.
    ran = two_ranks([one.socket, other.socket],
                    TWO_RANKS.replace("sys.argv[1 + rank]", "sys.argv[1 + rank], local_world_size=1"))
    assert [code for _, _, code in ran] == [3, 3], ran
    assert all("rank 1 has another plan: batch=fixed/16" in said for said, _, _ in ran)


UNTOLD = """
import atexit, sys, torch, seqfeed.torch
from torch import distributed
place, rank, socket = sys.argv[1], int(sys.argv[2]), sys.argv[3]
early = seqfeed.torch.Loader("train", socket=socket)
distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
atexit.register(distributed.destroy_process_group)
try:
    next(iter(early))
except RuntimeError as error:
    print(error)
alone = seqfeed.torch.Loader("train", socket=socket, rank=0, world_size=1)
print([batch.index for batch in alone])
print([batch.index for batch in seqfeed.torch.Loader("train", socket=socket)])
"""


@pytest.mark.slow
def test_ranks_that_only_torch_knows(start, corpus):
    daemon = start(corpus[1], batch={"size": 16})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    running = [subprocess.Popen([sys.executable, "-c", UNTOLD, place, str(rank), str(daemon.socket)], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE) for rank in range(2)]
    ran = [process.communicate(timeout=300) for process in running]
    for rank, (said, errors) in enumerate(ran):
        refused, alone, shared = said.splitlines() or [errors] * 3
        assert "before torch.distributed was initialised" in refused
        assert alone == str(list(range(13))) and shared == str(list(range(rank, 14, 2)))
    daemon.wait_log("2 of 2 ranks, 1 member each")  # one stream for both: decoded once
