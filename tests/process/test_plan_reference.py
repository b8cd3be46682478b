# SPDX-License-Identifier: MIT
"""The planner and the reference that was written from docs/formats/plan.md alone agree on every
batch, round and cursor of many random plans."""

import os
import pathlib
import random
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "reference"))

import plan_reference as reference  # noqa: E402

BUILD = pathlib.Path(os.environ.get("SEQFEED_BUILD", ROOT / "build"))
DUMP = BUILD / "tests" / "plan" / "plan_dump"

LAST = ["keep", "drop", "pad"]
TAIL = ["repeat", "drop"]
OVERFLOW = ["error", "truncate_right", "truncate_left", "split", "drop"]
EMPTY = ["keep", "drop"]
POLICY = ["fixed", "bucket", "tokens", "pack"]


def random_spec(dice: random.Random) -> reference.Spec:
    return reference.Spec(
        size=dice.choice([1, 2, 3, 5, 8, 64]),
        max=dice.choice([1, 2, 3, 7, 20]),
        shuffle=dice.random() < 0.8,
        seed=dice.choice([0, 1, dice.getrandbits(64)]),
        window=dice.choice([1, 2, 3, 10, 1000]),
        strands=dice.choice([1, 1, 2, 3, 4, 7]),
        last=dice.choice(LAST),
        tail=dice.choice(TAIL),
        overflow=dice.choice(OVERFLOW[1:]),
        empty=dice.choice(EMPTY),
    )


def with_policy(dice: random.Random, spec: reference.Spec, policy: str) -> reference.Spec:
    """The same with another policy and settings for it that a feed would allow."""
    spec.policy = policy
    if policy == "bucket":
        kind = dice.choice(["geometric", "listed", "all"])
        own = sorted(dice.sample(range(1, 30), dice.randint(1, 6)))
        spec.boundaries = {
            "geometric": reference.geometric(spec.max, dice.choice([1100, 1500, 2000])),
            "listed": reference.listed(own, spec.max),
            "all": (spec.max,),
        }[kind]
    if policy == "tokens":
        spec.pad_to = dice.choice([0, 0, spec.max + dice.randint(0, 5)])
        spec.pad_multiple_of = dice.choice([1, 1, 4, 8])
        spec.multiple_of = dice.choice([1, 2, 8])
        least = spec.multiple_of * reference.row_places(spec, spec.max)
        spec.tokens = least + dice.choice([0, 1, dice.randint(0, 3 * least)])
    if policy == "pack":
        spec.length = spec.max + dice.choice([0, 1, dice.randint(0, 200)])
        spec.pool = dice.choice([1, 2, 5, 64, 256])
        spec.group = dice.choice([0, 0, 1, 2, 7, 64])
    return spec


def random_lengths(dice: random.Random, strands: int) -> list:
    """Blocks of very different sizes, also without sequences, and runs that a rule drops whole."""
    longest = dice.choice([0, 1, 5, 12, 40])
    return [
        [dice.randint(dice.choice([0, 1]), max(longest, 1)) for _ in range(dice.randint(0, 30))]
        for _ in range(dice.randint(0, 12 * strands))
    ]


def mix_numbers(mix, lengths) -> list:
    if mix is None:
        return [0, 0, 0]
    counted = mix.until not in ("first", "all")
    until = 2 if counted else ["first", "all"].index(mix.until)
    numbers, first = [len(mix.blocks), until, mix.until if counted else 0], 0
    for blocks, total, weight in zip(
        mix.blocks, reference.mix_totals(mix, lengths), mix.weights
    ):
        numbers += [first, blocks, total, weight]
        first += blocks
    return numbers


def random_mix(dice: random.Random) -> tuple:
    """A mix and lengths for it; sources of very different sizes and weights."""
    count = dice.randint(2, 4)
    blocks = [dice.choice([1, 2, 5, dice.randint(1, 25)]) for _ in range(count)]
    lengths = []
    for number in blocks:
        most = dice.choice([1, 6, 20])
        own = [
            [dice.randint(0, dice.choice([5, 30])) for _ in range(dice.randint(0, most))]
            for _ in range(number)
        ]
        own[dice.randrange(number)] += [3]  # no source is empty
        lengths += own
    sizes = [dice.choice([1, 2, 7, 30]) for _ in range(count)]
    mix = reference.Mix(
        blocks=blocks,
        weights=[dice.choice([100000, 700000, 1000000]) * size for size in sizes],
        unit=dice.choice(["sequences", "tokens"]),
    )
    total = sum(reference.mix_totals(mix, lengths))
    mix.until = dice.choice(["first", "first", "all", 1, total, dice.randint(1, 2 * total)])
    return mix, lengths


def sources(spec, lengths, epoch) -> list:
    """The lines about sources, counted from the list of the reference."""
    taken = reference.mix_list(spec, lengths, epoch)
    shares = reference.mix_shares(spec.mix, reference.mix_totals(spec.mix, lengths))
    lines = []
    for i, share in enumerate(shares):
        own = [entry for entry in taken if entry[0] == i]
        if not own:
            lines.append(f"source {share} ? ? 0 0 0 0")
            continue
        start = sum(spec.mix.blocks[:i])
        order = list(range(start, start + spec.mix.blocks[i]))
        if spec.shuffle:
            order = reference.permuted(order, spec.seed, 1, i, own[0][1], 0)
        place = order.index(own[0][2])
        blocks = [block for _, _, block in own]
        sequences = [len(lengths[block]) for block in blocks]
        again = sum(sequences) - sum(len(lengths[block]) for block in set(blocks))
        lines.append(
            f"source {share} {own[0][1] % 2**64} {place} {len(own)} {sum(sequences)} "
            f"{sum(sum(lengths[block]) for block in blocks)} {again}"
        )
    return lines


def question(spec, lengths, epoch, start, world) -> str:
    head = [
        int(spec.shuffle), spec.seed, spec.window, spec.strands, spec.size,
        LAST.index(spec.last), TAIL.index(spec.tail), spec.max,
        OVERFLOW.index(spec.overflow), EMPTY.index(spec.empty),
        POLICY.index(spec.policy), spec.pad_to, spec.pad_multiple_of, spec.tokens, spec.multiple_of,
        spec.length, spec.pool, spec.group, len(spec.boundaries), *spec.boundaries,
        *mix_numbers(spec.mix, lengths),
    ]  # fmt: skip
    lines = [head, [epoch, start, world, len(lengths)]] + [[len(b), *b] for b in lengths]
    return "".join(" ".join(map(str, line)) + "\n" for line in lines)


def expected(spec, lengths, epoch, start, world) -> str:
    try:
        batches = reference.Epoch(spec, lengths, epoch).batches
    except reference.NoBatch as strand:
        return f"nodata {strand}\n"
    lines = [f"batches {len(batches)}"]
    if spec.mix:
        lines += sources(spec, lengths, epoch)
    for b in batches:
        units = "".join(
            " " + "+".join(",".join(map(str, piece)) for piece in unit) for unit in b.units
        )
        lines.append(f"{b.index} {b.strand} {b.rows} {int(b.repeated)}{units}")
    if start < len(batches):
        for places, cursor in reference.rounds(spec, len(batches), epoch, start, world):
            dealt = " ".join(f"{place.batch}:{int(place.repeated)}" for place in places)
            lines.append(f"round {cursor[0]} {cursor[1]} {dealt}")
    return "\n".join(lines + ["end"]) + "\n"


def answers(text: str) -> str:
    return subprocess.run(
        [DUMP], input=text, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def compare(plans: list) -> None:
    got = answers("".join(question(*plan) for plan in plans))
    for plan in plans:
        want = expected(*plan)
        assert got[: len(want)] == want, plan
        got = got[len(want) :]
    assert got == ""


@pytest.fixture(scope="session", autouse=True)
def programs():
    """Instead of the daemon and the tool, which these tests do not need."""
    if not DUMP.exists():
        raise RuntimeError(f"not built: {DUMP} (./dev build)")


@pytest.mark.parametrize("seed", range(8))
def test_random_plans_agree(seed):
    dice = random.Random(seed)
    plans = []
    for _ in range(40):
        spec = random_spec(dice)
        lengths = random_lengths(dice, spec.strands)
        for epoch in (0, 1, dice.getrandbits(40)):
            plans.append((spec, lengths, epoch, dice.randint(0, 20), dice.randint(1, 9)))
    usable = sum(not expected(*plan).startswith("nodata") for plan in plans)
    assert usable > len(plans) // 3
    compare(plans)


@pytest.mark.parametrize("policy", POLICY[1:])
@pytest.mark.parametrize("seed", range(4))
def test_random_plans_of_other_policies_agree(seed, policy):
    dice = random.Random(f"{seed} {policy}")
    plans = []
    for _ in range(30):
        spec = with_policy(dice, random_spec(dice), policy)
        lengths = random_lengths(dice, spec.strands)
        for epoch in (0, dice.getrandbits(40)):
            plans.append((spec, lengths, epoch, dice.randint(0, 20), dice.randint(1, 9)))
    usable = sum(not expected(*plan).startswith("nodata") for plan in plans)
    assert usable > len(plans) // 3
    compare(plans)


@pytest.mark.parametrize("policy", POLICY)
@pytest.mark.parametrize("seed", range(4))
def test_random_mixes_agree(seed, policy):
    dice = random.Random(f"mix {seed} {policy}")
    plans = []
    for _ in range(5):
        spec = with_policy(dice, random_spec(dice), policy)
        spec.mix, lengths = random_mix(dice)
        spec.strands, spec.size = min(spec.strands, 3), min(spec.size, 8)
        for epoch in (0, 1, dice.getrandbits(64)):
            plans.append((spec, lengths, epoch, dice.randint(0, 20), dice.randint(1, 9)))
    usable = sum(not expected(*plan).startswith("nodata") for plan in plans)
    assert usable >= 3
    compare(plans)


@pytest.mark.parametrize("seed", range(3))
def test_epochs_of_a_mix_join_without_gap(seed):
    """Over the epochs of the feed each source goes through its own epochs, each block once in
    each; the source that rules has one for each of the feed's; shares are kept in the long run."""
    dice = random.Random(f"join {seed}")
    mix, lengths = random_mix(dice)
    spec = reference.Spec(size=4, max=30, seed=seed, shuffle=seed % 2 == 0, mix=mix)
    for mix.until in ("first", "all", 40):
        epochs = [reference.mix_list(spec, lengths, epoch) for epoch in range(12)]
        shares = reference.mix_shares(mix, reference.mix_totals(mix, lengths))
        whole = [entry for epoch in epochs for entry in epoch]
        for i, count in enumerate(mix.blocks):
            own = [(e, block) for source, e, block in whole if source == i]
            assert len(set(own)) == len(own)
            assert [e for e, _ in own] == [k // count for k in range(len(own))]
            for at in range(0, len(whole) - 4095, 4096):
                part = whole[at : at + 4096]
                assert sum(source == i for source, _, _ in part) == shares[i]
        if mix.until == 40:
            continue
        ruling = {
            i
            for i, count in enumerate(mix.blocks)
            if all(
                sorted(b for s, own, b in epoch if s == i and own == number)
                == list(range(sum(mix.blocks[:i]), sum(mix.blocks[: i + 1])))
                for number, epoch in enumerate(epochs)
            )
        }
        assert ruling
        if mix.until == "first":  # in the first epoch nothing comes again
            assert len({block for _, _, block in epochs[0]}) == len(epochs[0])
        else:  # and in this one nothing is left out
            assert {block for _, _, block in epochs[0]} == set(range(len(lengths)))


@pytest.mark.parametrize("policy", POLICY[1:])
def test_larger_plans_of_other_policies_agree(policy):
    """Lengths of several digits of the sort, pools and buckets of the usual size."""
    dice = random.Random(policy)
    lengths = [[dice.choice([dice.randint(0, 300), dice.randint(1, 5000)]) for _ in range(200)]
               for _ in range(12)]
    spec = reference.Spec(size=16, max=4000, window=5, strands=2, overflow="truncate_left")
    spec = with_policy(dice, spec, policy)
    spec.boundaries = reference.geometric(4000, 1100)
    compare([(spec, lengths, epoch, 0, 3) for epoch in (0, 1)])


@pytest.mark.parametrize("policy", POLICY)
def test_every_sequence_once_an_epoch(policy):
    """Split and keep: each token and each empty sequence is in one batch that is not repeated."""
    dice = random.Random(policy)
    for _ in range(20):
        spec = with_policy(dice, random_spec(dice), policy)
        spec.overflow, spec.empty, spec.last, spec.tail = "split", "keep", "keep", "repeat"
        lengths = random_lengths(dice, spec.strands)
        try:
            batches = reference.Epoch(spec, lengths, 3).batches
        except reference.NoBatch:
            continue
        found = sorted(p for b in batches if not b.repeated for p in b.pieces())
        assert len(set(found)) == len(found)
        assert sum(piece.length for piece in found) == sum(map(sum, lengths))
        assert {(p.block, p.sequence) for p in found} == {
            (b, s) for b, block in enumerate(lengths) for s in range(len(block))
        }


def test_boundaries():
    assert reference.geometric(20, 1100) == (8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
    assert reference.geometric(5, 1100) == (5,)
    assert reference.listed([4, 9, 40], 9) == (4, 9)
    assert reference.quantiles([[1, 2, 3], [4, 50]], 10, 2) == (3, 10)


def test_a_larger_plan_agrees():
    dice = random.Random("large")
    lengths = [[dice.randint(1, 60) for _ in range(dice.randint(50, 150))] for _ in range(90)]
    spec = reference.Spec(
        size=16, max=32, seed=2**64 - 1, window=8, strands=3, overflow="split", tail="drop"
    )
    compare([(spec, lengths, epoch, 5, 4) for epoch in (0, 7, 2**32 + 7)])


def test_the_example_of_the_document():
    spec = reference.Spec(size=2, max=3, shuffle=False, window=1, overflow="split")
    lengths = [[2, 3], [1], [4, 2, 5]]
    want = (
        "batches 4\n"
        "0 0 2 0 0,0,0,2 0,1,2,3\n"
        "1 0 2 0 1,0,0,1 2,0,0,3\n"
        "2 0 2 0 2,0,3,1 2,1,4,2\n"
        "3 0 2 0 2,2,6,3 2,2,9,2\n"
        "round 0 3 0:0 1:0 2:0\n"
        "round 1 0 3:0 0:1 1:1\n"
        "end\n"
    )
    assert expected(spec, lengths, 0, 0, 3) == want
    assert answers(question(spec, lengths, 0, 0, 3)) == want


def test_a_resumed_stream_equals_the_rest_of_the_uninterrupted_one():
    """At any cursor, with the same world: the same steps; with another: the same batches."""
    dice = random.Random("resume")
    lengths = [[dice.randint(0, 9) for _ in range(dice.randint(1, 9))] for _ in range(20)]
    for tail in TAIL:
        spec = reference.Spec(size=4, max=9, window=3, strands=2, tail=tail)
        steps = reference.stream(spec, lengths, world=3)
        taken = [next(steps) for _ in range(30)]
        for i, step in enumerate(taken[:-1]):
            again = reference.stream(spec, lengths, *step.cursor, world=3)
            assert [next(again) for _ in range(len(taken) - i - 1)] == taken[i + 1 :]
            single = next(reference.stream(spec, lengths, *step.cursor, world=1))
            assert single.batches[0] == taken[i + 1].batches[0]


def test_reference_cursors_are_read_back():
    spec = reference.Spec(size=2, max=3, seed=5)
    text = reference.cursor(spec, "ab" * 16, 3, 4711)
    assert reference.cursor_position(text) == (3, 4711)
    assert reference.cursor_position("sf1;epoch=9") == (9, 0)
    with pytest.raises(ValueError):
        reference.cursor_position(text.replace("4711", "4712"))
