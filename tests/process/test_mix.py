# SPDX-License-Identifier: MIT
"""Several datasets in one feed: what a daemon delivers is what the references say, for random
mixes; cursors go on exactly; what does not fit together is refused by name."""
import json
import random
import re

import expected
import harness
import pytest
import raw_client
from test_order import agree, take


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Four of very different sizes and lengths; in several shards where there is enough. The third
    has its columns in another order, and one more."""
    base = tmp_path_factory.mktemp("mix")
    sizes = {"web": (400, 40), "code": (90, 90), "tiny": (5, 12), "poems": (150, 25)}
    found = {}
    for number, (name, (count, longest)) in enumerate(sizes.items()):
        rows = harness.random_rows(count, seed=number, longest=longest, vocabulary=60000)
        if name == "tiny":
            rows = [{"tokens": row["tokens"], "score": 0.5, "label": row["label"]} for row in rows]
        found[name] = harness.pack(base / name, rows, "--block", "4KiB", "--shard", "24KiB",
                                   "--token-type", "u16")
    return found


def entries(chosen):
    return {name: {"path": str(path), "weight": float(weight)}
            for name, (path, weight) in chosen.items()}


def configure(path, chosen, mix, top=None, **feed):
    unit, until = mix
    return harness.write_config(path / "c.yaml", {"train": {
        "datasets": entries(chosen), "mix": {"unit": unit, "until": until}, **feed}}, **(top or {}))


BATCHES = [
    {"policy": "fixed", "size": 8},
    {"policy": "bucket", "size": 8},
    {"policy": "tokens", "tokens": 900, "multiple_of": 2},
    {"policy": "pack", "size": 2, "length": 128, "group": 4},
]


def random_mix(dice, datasets):
    names = dice.sample(sorted(datasets), dice.randint(2, 4))
    chosen = {name: (datasets[name], dice.choice(["1", "0.25", "3", "0.7"])) for name in names}
    unit = dice.choice(["sequences", "tokens"])
    return chosen, (unit, dice.choice(["first", "all", "all", 400 if unit == "sequences" else 9000]))


@pytest.mark.threads
@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch["policy"])
@pytest.mark.parametrize("seed", range(3))
def test_random_mixes(tmp_path, datasets, seed, batch):
    """Two epochs by the ranks of some world; then resumed in the middle under another one."""
    dice = random.Random(f"{seed} {batch}")
    chosen, mix = random_mix(dice, datasets)
    order = {"seed": dice.getrandbits(32), "window": dice.choice([1, 4, 100]),
             "strands": dice.choice([1, 1, 2, 3]), "shuffle": dice.random() < 0.8}
    length = dice.choice([{}, {"max": 20, "overflow": "split"}, {"max": 30, "overflow": "drop"}])
    config = configure(tmp_path, chosen, mix, {"cache": dice.choice([0, "auto"])}, batch=batch,
                       order=order, length=length)
    known = expected.Expected(chosen, batch=batch, mix=mix, **order, overflow=length.get(
        "overflow", "error"), length_max=length.get("max"))
    try:
        known.epoch(), known.epoch(1, 1)
    except expected.plan_reference.NoBatch:  # too many strands for so little
        order["strands"] = known.spec.strands = 1
        config = configure(tmp_path, chosen, mix, batch=batch, order=order, length=length)
    world = dice.choice([1, 2, 3])
    epochs = known.epoch(world) + known.epoch(world, 1)
    with harness.Daemon(config) as daemon:
        for rank in range(world):
            agree(daemon.cat(rank=rank, world=world, n=len(epochs)), [r[rank] for r in epochs])
        cursor = dice.choice(epochs)[0]["cursor"]
        epoch, index = expected.plan_reference.cursor_position(cursor)
        again = 1 + world % 3
        agree(daemon.cat(resume=cursor, world=again), known.rank(0, again, epoch, index))


def test_every_round_can_be_resumed(tmp_path, datasets):
    chosen = {"web": (datasets["web"], "1"), "poems": (datasets["poems"], "2")}
    config = configure(tmp_path, chosen, ("tokens", "first"), batch={"size": 4},
                       order={"seed": 9, "window": 2, "strands": 2})
    known = expected.Expected(chosen, size=4, seed=9, window=2, strands=2, mix=("tokens", "first"))
    rounds = (known.epoch(2) + known.epoch(2, 1) + known.epoch(2, 2))[:24]
    with harness.Daemon(config) as daemon:
        for number, found in enumerate(rounds):
            epoch, index = expected.plan_reference.cursor_position(found[0]["cursor"])
            world = 1 + number % 3
            following = known.stream(world, epoch, index)
            agree(daemon.cat(n=2, resume=found[0]["cursor"], world=world),
                  [next(following)[0] for _ in range(2)])


@pytest.mark.slow
@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch["policy"])
def test_every_cursor_of_every_policy(tmp_path, datasets, batch):
    """All rounds of two ranks over two epochs, each resumed for a while under other ranks."""
    chosen = {"tiny": (datasets["tiny"], "1"), "code": (datasets["code"], "2"),
              "poems": (datasets["poems"], "1.5")}
    mix = ("tokens", 7000)
    order = {"seed": 4, "window": 3}
    known = expected.Expected(chosen, batch=batch, mix=mix, **order)
    rounds = known.epoch(2) + known.epoch(2, 1)
    with harness.Daemon(configure(tmp_path, chosen, mix, batch=batch, order=order)) as daemon:
        for number, found in enumerate(rounds):
            epoch, index = expected.plan_reference.cursor_position(found[0]["cursor"])
            world = 1 + number % 3
            following = known.stream(world, epoch, index)
            agree(daemon.cat(n=3, resume=found[0]["cursor"], world=world),
                  [next(following)[0] for _ in range(3)])


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch["policy"])
def test_every_token_of_a_mix_has_one_fate(tmp_path, datasets, batch):
    """The ledger adds up to what the epoch takes from the datasets, as often as it takes it."""
    chosen = {"web": (datasets["web"], "1"), "tiny": (datasets["tiny"], "1")}
    mix = ("sequences", "all")
    batch = {**batch, "last": "drop"}
    length = {"max": 20, "overflow": "drop", "empty": "drop"}
    config = configure(tmp_path, chosen, mix, batch=batch, length=length, order={"strands": 2})
    known = expected.Expected(chosen, batch=batch, mix=mix, strands=2, length_max=20, overflow="drop",
                              empty="drop")
    taken = expected.plan_reference.mix_list(known.spec, known.lengths, 0)
    assert len(taken) > len({block for _, _, block in taken})
    with harness.Daemon(config) as daemon:
        batches = daemon.cat()
    sums = {key: sum(each["ledger"][key] for each in batches)
            for key in ("tokens_in", "trained", "ignored", "truncated", "dropped", "repeated")}
    assert sums["tokens_in"] - sums["repeated"] == sum(sum(known.lengths[b]) for _, _, b in taken)
    assert sums["tokens_in"] == (sums["trained"] + sums["ignored"] + sums["truncated"]
                                 + sums["dropped"])


@pytest.mark.threads
def test_kill_9_in_the_middle_of_a_mix(tmp_path, datasets):
    chosen = {"code": (datasets["code"], "1"), "tiny": (datasets["tiny"], "0.5")}
    config = configure(tmp_path, chosen, ("sequences", "all"), {"threads": 2}, batch={"size": 4},
                       order={"seed": 2, "window": 3})
    known = expected.Expected(chosen, size=4, seed=2, window=3, mix=("sequences", "all")).rank(0)
    dice = random.Random(4)
    found, options = [], {}
    daemon = harness.Daemon(config)
    with daemon:
        while len(found) < len(known):
            with raw_client.Trainer(daemon.socket, "train", **options) as trainer:
                take(trainer, found, min(dice.randint(1, 20), len(known) - len(found)))
                if len(found) < len(known):
                    daemon.kill()
            options = {"cursor": found[-1]["cursor"]}
            if daemon.process.returncode is not None:
                daemon.start()
    agree(found, known)


def test_one_dataset_under_a_name_is_that_dataset(tmp_path, datasets):
    """Cursors of the one are good for the other."""
    chosen = {"web": (datasets["web"], "5")}
    known = expected.Expected(datasets["web"], size=8)
    with harness.Daemon(configure(tmp_path, chosen, ("tokens", "all"), batch={"size": 8})) as daemon:
        first = daemon.cat(n=5)
    with harness.Daemon(harness.one_feed(tmp_path / "d.yaml", datasets["web"],
                                         batch={"size": 8})) as daemon:
        agree(first + daemon.cat(resume=first[-1]["cursor"]), known.rank(0))


def test_an_epoch_of_a_number_of_one_dataset(tmp_path, datasets):
    chosen = {"code": (datasets["code"], "1")}
    mix = ("sequences", 40)
    known = expected.Expected(chosen, size=8, mix=mix)
    with harness.Daemon(configure(tmp_path, chosen, mix, batch={"size": 8})) as daemon:
        for epoch in range(3):
            agree(daemon.cat(resume=f"sf1;epoch={epoch}"), known.rank(0, epoch=epoch))


def test_the_shares_of_a_plan(tmp_path, datasets):
    """What `plan` prints about sources is what the reference takes from them."""
    chosen = {"web": (datasets["web"], "3"), "tiny": (datasets["tiny"], "1")}
    mix = ("sequences", "first")
    config = configure(tmp_path, chosen, mix, batch={"size": 8})
    plan = json.loads(harness.tool("plan", config, "--json").stdout)["feeds"]["train"]
    known = expected.Expected(chosen, size=8, mix=mix)
    taken = expected.plan_reference.mix_list(known.spec, known.lengths, 0)
    shares = expected.plan_reference.mix_shares(
        known.spec.mix, expected.plan_reference.mix_totals(known.spec.mix, known.lengths))
    assert [source["name"] for source in plan["sources"]] == ["web", "tiny"]
    for number, source in enumerate(plan["sources"]):
        blocks = [block for own, _, block in taken if own == number]
        sequences = sum(len(known.lengths[block]) for block in blocks)
        again = sequences - sum(len(known.lengths[block]) for block in set(blocks))
        assert source["share"] == pytest.approx(shares[number] / 4096, abs=1e-6)
        assert source["blocks"] == len(blocks)
        assert source["sequences"] == sequences
        assert source["sequences_again"] == again
        assert source["tokens"] == sum(sum(known.lengths[block]) for block in blocks)
        assert source["epochs"] == pytest.approx(len(blocks) / known.spec.mix.blocks[number], abs=1e-6)
    assert plan["sequences"] == sum(source["sequences"] for source in plan["sources"])
    assert not [warning for warning in plan["warnings"] if "in the long run" in warning]
    table = harness.tool("plan", config).stdout
    assert re.search(r"web +3 .*\n +tiny +1 ", table), table


def test_a_weight_too_small_to_be_kept_is_said(tmp_path, datasets):
    chosen = {"web": (datasets["web"], "1"), "code": (datasets["code"], "0.0001")}
    config = configure(tmp_path, chosen, ("sequences", 300))
    plan = json.loads(harness.tool("plan", config, "--json").stdout)["feeds"]["train"]
    assert [source["share"] for source in plan["sources"]] == pytest.approx([4095 / 4096, 1 / 4096],
                                                                            abs=1e-6)
    assert re.search(r"dataset code gets 0\.0\d+ % in the long run, its weight asks for 0.010 %: ",
                     " ".join(plan["warnings"])), plan["warnings"]


def warnings_at_start(config):
    """What `--check` says, which `seqfeed plan` and a starting daemon say too."""
    ran = harness.subprocess.run([str(harness.DAEMON), "--config", str(config), "--check"], text=True,
                                 capture_output=True, env=harness.environment(), timeout=60, check=True)
    said = re.findall(r"^seqfeedd: warning: (.*)$", ran.stderr, re.M)
    assert said == [warning for warning in json.loads(harness.tool("plan", config, "--json").stdout)["feeds"][
        "train"]["warnings"] if "c.yaml:" in warning]
    with harness.Daemon(config) as daemon:
        assert re.findall(r"^seqfeedd: warning: (.*)$", daemon.log, re.M) == said
    return said


def test_datasets_too_small_to_be_mixed_are_said(tmp_path):
    """Of one block each, an epoch that ends with the first is that one alone, whatever the weights."""
    rows = harness.random_rows(300, longest=8)
    found = {name: harness.pack(tmp_path / name, rows) for name in ("a", "b")}
    chosen = {"a": (found["a"], "0.9"), "b": (found["b"], "0.1")}
    said = warnings_at_start(configure(tmp_path, chosen, ("sequences", "first"), order={"seed": 1}))
    assert len(said) == 1, said
    match = re.search(r"c.yaml:\d+:\d+: feeds.train.mix: epoch 0 takes (0|100) % of its sequences from '([ab])', "
                      r"whose weight says (90|10) %: weights are kept by whole blocks, and ([01]) of this epoch's "
                      r"1 comes? from there; pack small datasets into more blocks", said[0])
    assert match, said
    # The same through many blocks: as the weights say, and nothing to say.
    configured = configure(tmp_path, chosen, ("sequences", 300 * 4096))
    assert warnings_at_start(configured) == []


def test_a_mix_of_many_blocks_is_not_warned_of(tmp_path, datasets):
    chosen = {"web": (datasets["web"], "1"), "code": (datasets["code"], "1")}
    assert warnings_at_start(configure(tmp_path, chosen, ("tokens", 400000))) == []


# --- refusals ------------------------------------------------------------------------------------

def refused(config, *words):
    ran = harness.subprocess.run([str(harness.DAEMON), "--config", str(config), "--check"], text=True,
                                 capture_output=True, env=harness.environment(), timeout=60,
                                 check=False)
    assert ran.returncode == 78, ran.stderr
    for word in words:
        assert word in ran.stderr, ran.stderr


def test_a_cursor_of_another_mix_is_refused_in_full(tmp_path, datasets):
    chosen = {"web": (datasets["web"], "1"), "code": (datasets["code"], "0.5")}
    with harness.Daemon(configure(tmp_path, chosen, ("sequences", "first"))) as daemon:
        cursor = daemon.cat(n=1)[0]["cursor"]
    assert ";mix=sequences/first;seed=" in cursor
    chosen["code"] = (datasets["code"], "0.25")
    with harness.Daemon(configure(tmp_path, chosen, ("tokens", 5000))) as daemon:
        ran = harness.tool(*daemon.cat_arguments(resume=cursor), check=False)
    ids = [expected.shard_reader.read_dataset(path).id for path, _ in chosen.values()]
    assert ran.returncode == 1
    assert f" of web {ids[0]} weight 1, code {ids[1]} weight 0.25" in ran.stderr, ran.stderr
    assert "mix: cursor has sequences/first, the feed has tokens/5000" in ran.stderr
    with harness.Daemon(harness.one_feed(tmp_path / "d.yaml", datasets["web"])) as daemon:
        ran = harness.tool(*daemon.cat_arguments(resume=cursor), check=False)
    assert "mix: cursor has sequences/first, the feed has no such field" in ran.stderr


def test_datasets_that_do_not_fit_together_are_refused_by_name(tmp_path, datasets):
    base = tmp_path
    wide = harness.pack(base / "wide", [{"tokens": [1, 70000]}])
    bare = harness.pack(base / "bare", [{"tokens": [1, 7]}], "--token-type", "u16")
    padded = harness.pack(base / "padded", [{"tokens": [1], "label": 1}], "--token-type", "u16",
                          "--pad-id", "9")
    web = (datasets["web"], "1")
    first = ("sequences", "first")
    refused(configure(base, {"web": web, "wide": (wide, "1")}, first), "c.yaml:8:15: "
            "feeds.train.datasets.wide.path: column 'tokens' is u16 (tokens) in dataset web, but "
            "dataset wide has u24 (tokens)")
    refused(configure(base, {"web": web, "bare": (bare, "1")}, first),
            "feeds.train.tensors: tensor labels: column 'label' is i64 (sequence) in dataset web, but "
            "dataset bare has none of that name")
    refused(configure(base, {"web": web, "tiny": (datasets["tiny"], "1")}, first,
                      tensors={"score": {"from": "score"}}),
            "feeds.train.tensors.score.from: column 'score' is f32 (sequence) in dataset tiny, but "
            "dataset web has none of that name")
    refused(configure(base, {"web": web, "padded": (padded, "1")}, first),
            "dataset web is padded with 0, dataset padded with 9: set pad.value")
    refused(configure(base, {"web": web, "lost": (base / "lost", "1")}, first),
            "feeds.train.datasets.lost.path: cannot open dataset")
    config = configure(base, {"web": web, "padded": (padded, "1")}, first, pad={"value": 3})
    harness.tool("plan", config)


def test_a_damaged_dataset_is_named(tmp_path, datasets):
    """Other blocks of the feed come until the damaged one; the message names its own file."""
    rows = harness.random_rows(300, seed=8, longest=40, vocabulary=60000)
    broken = harness.pack(tmp_path / "broken", rows, "--block", "4KiB", "--token-type", "u16")
    shard = next(iter(sorted(broken.glob("shard-*"))))
    data = bytearray(shard.read_bytes())
    reader = expected.shard_reader.read_dataset(broken)
    assert len(reader.blocks) > 3
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    chosen = {"web": (datasets["web"], "1"), "broken": (broken, "1")}
    config = configure(tmp_path, chosen, ("sequences", "all"))
    with harness.Daemon(config) as daemon:
        ran = harness.tool(*daemon.cat_arguments(), check=False)
        assert ran.returncode == 1
        assert re.search(rf"{re.escape(str(broken))}/shard-00000.zst: block \d+ at offset \d+ is "
                         r"damaged", ran.stderr + daemon.log), ran.stderr
