# SPDX-License-Identifier: MIT
"""Every program on docs/python.md runs as it stands there, and does what the lines below it say."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import harness
import pytest
import seqfeed

PAGE = (harness.ROOT / "docs/python.md").read_text()
TEXTS = [path for name in ("Apache-2.0", "Artistic", "MPL-2.0")
         if (path := pathlib.Path("/usr/share/common-licenses", name)).exists()]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(len(TEXTS) < 3, reason="no licences in /usr/share/common-licenses")]

# Heading -> what its program imports.
PROGRAMS = {"Train over epochs, save, and go on": ["torch"], "DistributedDataParallel": ["torch"],
            "transformers": ["torch", "transformers", "accelerate"], "Lightning": ["torch", "lightning"],
            "accelerate": ["torch", "accelerate"], "A sweep: four trainers, the same batches": ["torch"],
            "JAX": ["jax"], "numpy, and nothing else": ["numpy"]}
TEN_LINES = 1  # tests/python/test_examples.py runs them


def section(heading):
    return re.search(rf"^###? {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL).group(1)


def block(heading, language="python"):
    return re.search(rf"```{language}\n(.*?)```", section(heading), re.DOTALL).group(1)


def program(folder, heading):
    """The program of this section as a file; skips where it cannot be run."""
    for name in PROGRAMS[heading]:
        if subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False).returncode:
            pytest.skip(f"no {name} here")
    path = folder / "train.py"
    path.write_text(block(heading))
    return path


def run(folder, *command, code=0):
    """What a command beside a private daemon says, as the page has it."""
    ran = subprocess.run([harness.TOOL, "run", "train.yaml", "--", *map(str, command)], cwd=folder,
                         env=harness.environment(OMP_NUM_THREADS=1, CUDA_VISIBLE_DEVICES=""), capture_output=True,
                         text=True, timeout=400, check=False)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "corpus"
    seqfeed.tokenize(TEXTS, tokenizer="bytes", out=folder)
    return folder


@pytest.fixture
def folder(tmp_path, packed):
    shutil.copytree(packed, tmp_path / "corpus")
    (tmp_path / "train.yaml").write_text(block("Start here", "yaml"))
    return tmp_path


def test_every_program_of_the_page_is_known():
    blocks = re.findall(r"^```python$", PAGE, re.MULTILINE)
    assert len(blocks) == len(PROGRAMS) + TEN_LINES
    assert all(len(re.findall("```python", section(heading))) == 1 for heading in PROGRAMS)


# Ends the process at once after so many steps of the optimizer, as a machine that fails would.
DIES = """
import os, torch
steps, step = [], torch.optim.Adam.step
def count(self, *arguments, **options):
    steps.append(step(self, *arguments, **options))
    if len(steps) > {}:
        os._exit(9)
torch.optim.Adam.step = count
"""


def test_the_loop_goes_on_where_it_was_saved(folder):
    path = program(folder, "Train over epochs, save, and go on")
    seeded = "import torch\ntorch.manual_seed(0)\n" + path.read_text()
    path.write_text(seeded)
    whole = run(folder, sys.executable, path).splitlines()
    (folder / "state.pt").unlink()
    epoch = len(whole) // 3
    assert len(whole) == 3 * epoch and f"epoch 1, batch {epoch - 1}" in whole[2 * epoch - 1]
    path.write_text(DIES.format(epoch + 25) + seeded)
    run(folder, sys.executable, path, code=9)
    path.write_text(seeded)
    rest = run(folder, sys.executable, path).splitlines()
    assert rest == whole[epoch + 20:]  # the last state is that after the batch 19


def test_a_state_of_an_epochs_last_batch_begins_the_next(folder, start, packed):
    pytest.importorskip("torch", reason="no torch here (python3-torch)")
    import seqfeed.torch
    daemon = start(packed, batch={"size": 64})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    for batch in loader:
        assert loader.epoch == (0 if batch.index + 1 < len(loader) else 1)
    other = seqfeed.torch.Loader("train", socket=daemon.socket)
    other.load_state_dict(loader.state_dict())
    assert other.epoch == 1
    assert [(batch.epoch, batch.index) for batch in other] == [(1, index) for index in range(len(loader))]


# What torchrun tells its processes; that of torch 1.13 does not run under Python 3.11.
BY_HAND = """
import os, socket, subprocess, sys
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
ranks = int(sys.argv[1])
sys.exit(max([each.wait() for each in [subprocess.Popen([sys.executable, sys.argv[2]], env={
    **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}) for rank in range(ranks)]]))
"""


def run_ranks(folder, path, options, ranks):
    """What they say of their epochs."""
    torch = pytest.importorskip("torch")
    launcher = (["-m", "torch.distributed.run", *options, ranks] if int(torch.__version__.split(".")[0]) > 1
                else ["-c", BY_HAND, ranks])
    said = run(folder, sys.executable, *launcher, path).splitlines()
    return [line for line in said if line.startswith("epoch")]


def test_ranks_under_torchrun(folder):
    path = program(folder, "DistributedDataParallel")
    *options, ranks = re.search("-- torchrun (.*) train.py", section("DistributedDataParallel")).group(1).split()
    said = run_ranks(folder, path, options, ranks)
    assert len(said) == 2 and all(line.endswith(f" on rank 0, {said[0].split()[-2]} steps") for line in said)
    assert run_ranks(folder, path, options, 1) == []  # both are done, on another number of ranks too
    (folder / "state.pt").unlink()
    alone = run_ranks(folder, path, options, 1)
    assert int(said[0].split()[-2]) == -(-int(alone[0].split()[-2]) // int(ranks))


@pytest.mark.parametrize("heading, made", [("transformers", "runs/checkpoint-10/seqfeed.json"),
                                           ("Lightning", "runs/last.ckpt"), ("accelerate", "state")])
def test_trainers_run_and_are_taken_up(folder, heading, made):
    path = program(folder, heading)
    run(folder, sys.executable, path)
    assert (folder / made).exists()
    run(folder, sys.executable, path)


def test_the_sweep_tries_four_rates(folder):
    said = run(folder, sys.executable, program(folder, "A sweep: four trainers, the same batches"))
    assert len(eval(said)) == 4  # noqa: S307  our own page prints it


def test_jax_learns(folder):
    said = run(folder, sys.executable, program(folder, "JAX")).splitlines()
    losses = [float(line.split()[-1]) for line in said]
    assert len(losses) == 2 and max(losses) < 3.5  # nats a byte; knowing nothing is ln 256 = 5.5


def test_views_for_numpy(folder):
    run(folder, sys.executable, program(folder, "numpy, and nothing else"))


def test_one_slot_and_a_plain_loop(start, packed):
    """As the page says of it."""
    daemon = start(packed, batch={"size": 64}, ring={"slots": 1})
    with pytest.raises(BufferError, match="this process holds"):
        for batch in seqfeed.attach("train", socket=daemon.socket):
            seen = batch.index
    assert seen == 0
    del batch
    count = 0
    for batch in seqfeed.attach("train", socket=daemon.socket):
        count += 1
        del batch
    for batch in seqfeed.attach("train", socket=daemon.socket):
        with batch:
            count -= 1
    assert count == 0 and os.path.exists(daemon.socket)


def test_one_slot_and_a_loader(start, packed):
    pytest.importorskip("torch", reason="no torch here (python3-torch)")
    import seqfeed.torch
    daemon = start(packed, batch={"size": 64}, ring={"slots": 1})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    assert [batch.index for batch in loader] == list(range(len(loader)))
