# SPDX-License-Identifier: MIT
"""pack, inspect, verify, salvage: what goes in comes out, as an independent reader sees it."""
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import harness
import numpy
import pytest

sys.path.insert(0, str(harness.ROOT / "tests" / "reference"))
import shard_reader  # noqa: E402

LICENCES = sorted(path for path in pathlib.Path("/usr/share/common-licenses").glob("*")
                  if path.is_file() and not path.is_symlink())
INTEGERS = {"u8": (0, 255), "u16": (0, 65535), "u24": (0, 2**24 - 1), "u32": (0, 2**32 - 1),
            "i32": (-2**31, 2**31 - 1), "i64": (-2**63, 2**63 - 1)}
FLOATS = ["f16", "bf16", "f32"]


def refused(*arguments, **options):
    """Exit 1 and the sentence."""
    ran = harness.tool(*arguments, check=False, **options)
    assert ran.returncode == 1, (ran.returncode, ran.stderr)
    assert ran.stdout == ""
    return ran.stderr


def usage(*arguments):
    ran = harness.tool(*arguments, check=False)
    assert ran.returncode == 2, (ran.returncode, ran.stderr)
    assert "--help" in ran.stderr
    return ran.stderr


def directory_bytes(path):
    return {entry.name: entry.read_bytes() for entry in sorted(pathlib.Path(path).iterdir())}


def numbers(rng, kind, count):
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return [rng.choice((low, high, rng.randint(low, high))) for _ in range(count)]
    return [rng.choice((0.0, -1.5, rng.uniform(-8, 8), rng.uniform(0, 1e-6)))
            for _ in range(count)]


def rounded(values, kind):
    """Numbers as they come back from the disk."""
    values = numpy.array(values, dtype=numpy.float64 if kind in FLOATS else numpy.int64)
    if kind == "f16":
        return values.astype(numpy.float16)
    if kind == "f32":
        return values.astype(numpy.float32)
    if kind == "bf16":  # nearest even, straight from the double: exact for what numbers() makes
        exact = []
        for value in values.ravel():
            single = numpy.float32(value)
            bits = int(single.view(numpy.uint32))
            low = bits & 0xFFFF
            up = low > 0x8000 or (low == 0x8000 and (bits >> 16 & 1 or float(single) < value))
            exact.append(((bits >> 16) + up) << 16)
        return numpy.array(exact, dtype=numpy.uint32).view(numpy.float32).reshape(values.shape)
    return values


def check_rows(directory, rows, types):
    """Every value of every row; `types` names the type of each column."""
    dataset = shard_reader.read_dataset(directory)
    assert len(dataset) == len(rows)
    for i, row in enumerate(rows):
        got = dataset[i]
        assert set(got) == set(types)
        for name, kind in types.items():
            want = rounded(row[name], kind)
            assert numpy.array_equal(numpy.asarray(got[name]).reshape(want.shape), want), (i, name)
    return dataset


@pytest.mark.parametrize("kind", [*INTEGERS, *FLOATS])
def test_every_type_comes_back(tmp_path, kind):
    rng = random.Random(kind)
    rows = []
    for _ in range(60):
        length = rng.choice((0, 1, 2, rng.randint(0, 90)))
        rows.append({"tokens": numbers(rng, kind, length), "label": numbers(rng, kind, 1)[0],
                     "extra": numbers(rng, kind, length),
                     "spans": numbers(rng, kind, rng.choice((0, 1, 7)))})
    directory = harness.pack(tmp_path / "d", rows, "--token-type", kind, "--block", "4KiB",
                             "--column", f"label:sequence:{kind}", "--column",
                             f"extra:token:{kind}", "--column", f"spans:ragged:{kind}")
    check_rows(directory, rows, dict.fromkeys(("tokens", "label", "extra", "spans"), kind))
    harness.tool("verify", directory)


def test_wide_values_come_back(tmp_path):
    rng = random.Random(3)
    rows = []
    for _ in range(40):
        frames, pairs = rng.randint(0, 12), rng.randint(0, 3)
        rows.append({"tokens": [[rng.randint(-9, 9) / 4 for _ in range(5)] for _ in range(frames)],
                     "box": [rng.randint(0, 99) for _ in range(4)],
                     "pairs": [[rng.randint(0, 9) for _ in range(2)] for _ in range(pairs)],
                     "states": [[rng.randint(0, 9) for _ in range(3)] for _ in range(frames)]})
    directory = harness.pack(
        tmp_path / "d", rows, "--column", "tokens:tokens:f16:5", "--column", "box:sequence:u8:4",
        "--column", "pairs:ragged:u16:2", "--column", "states:token:u8:3")
    dataset = shard_reader.read_dataset(directory)
    assert [column.width for column in dataset.columns] == [5, 4, 2, 3]
    for i, row in enumerate(rows):
        for name, width in (("tokens", 5), ("box", 4), ("pairs", 2), ("states", 3)):
            want = numpy.array(row[name], dtype=float).reshape(-1, width)
            assert numpy.array_equal(dataset[i][name].reshape(-1, width), want), (i, name)


def test_what_rows_and_files_are_called_cannot_drive_a_terminal(tmp_path):
    strange = tmp_path / "clear\x1b[2J.txt"
    strange.write_text("x\n")
    source = tmp_path / "rows.jsonl"
    source.write_text('{"tokens": [1], "\\u001b[2Ja": "s", "\\u009b31m": null}\n')
    said = harness.tool("pack", "-o", tmp_path / "d", source).stderr
    assert '"?[2Ja"' in said and '"??31m"' in said
    source.write_text('{"tokens": [1], "\\u001b[2Ja": }\n')
    said += harness.tool("pack", "-o", tmp_path / "e", source, check=False).stderr
    said += harness.tool("pack", "--text", "-o", tmp_path / "f", strange, tmp_path / "lost\x1b[2J", check=False).stderr
    harness.tool("pack", "--text", "--label", "file", "-o", tmp_path / "g", strange)
    said += harness.tool("inspect", tmp_path / "g").stdout
    assert "0 clear?[2J.txt" in said and "lost?[2J" in said
    assert "\x1b" not in said and "\x9b" not in said


def test_columns_follow_from_the_first_row(tmp_path):
    rows = [{"text": "a", "label": 3, "tokens": [1, 2, 3], "score": 0.5, "mask": [0, 1, 1],
             "spans": [4, 5], "frames": [[1, 2], [3, 4], [5, 6]], "good": True},
            {"text": "b", "label": -3, "tokens": [70000], "score": 2, "mask": [1],
             "spans": [], "frames": [[7, 8]], "good": False}]
    source = harness.write_jsonl(tmp_path / "rows.jsonl", rows)
    ran = harness.tool("pack", "-o", tmp_path / "d", source)
    assert ran.stderr.count("left out") == 1 and '"text"' in ran.stderr
    dataset = shard_reader.read_dataset(tmp_path / "d")
    assert {c.name: (c.kind, c.type, c.width) for c in dataset.columns} == {
        "tokens": ("tokens", "u24", 1), "label": ("sequence", "i64", 1),
        "score": ("sequence", "f32", 1), "mask": ("token", "i64", 1),
        "spans": ("ragged", "i64", 1), "frames": ("token", "i64", 2),
        "good": ("sequence", "i64", 1)}
    assert dataset[1]["frames"].tolist() == [[7, 8]] and dataset[1]["score"] == 2


@pytest.mark.parametrize("tokens, kind", [([0], "u16"), ([65535], "u16"), ([65536], "u24"),
                                          ([2**24 - 1], "u24"), ([2**24], "u32"),
                                          ([2**32 - 1], "u32"), ([2**32], "i64"), ([-1], "i64"),
                                          ([0.5], "f32")])
def test_the_narrowest_type_is_taken(tmp_path, tokens, kind):
    harness.pack(tmp_path / "d", [{"tokens": [1]}, {"input_ids": [3], "tokens": tokens}][:1] +
                 [{"tokens": tokens}])
    shown = json.loads(harness.tool("inspect", "--json", tmp_path / "d").stdout)
    assert shown["token_type"] == kind


def test_standard_input_and_compressed_input_are_the_same_rows(tmp_path):
    rows = harness.random_rows(300)
    source = harness.write_jsonl(tmp_path / "rows.jsonl", rows)
    subprocess.run(["zstd", "-q", str(source)], check=True)
    harness.tool("pack", "-o", tmp_path / "plain", "--token-type", "u32", source)
    harness.tool("pack", "-o", tmp_path / "packed", "--token-type", "u32", f"{source}.zst")
    harness.tool("pack", "-o", tmp_path / "stdin", "-", input=source.read_text())
    with open(f"{source}.zst", "rb") as file:
        subprocess.run([harness.TOOL, "pack", "-", "-o", tmp_path / "zstdin"], stdin=file,
                       check=True, capture_output=True)
    plain = directory_bytes(tmp_path / "plain")
    for other in ("packed", "stdin", "zstdin"):
        assert directory_bytes(tmp_path / other) == plain


def test_input_ids_and_other_keys(tmp_path):
    harness.pack(tmp_path / "a", [{"input_ids": [1, 2]}])
    harness.pack(tmp_path / "b", [{"ids": [1, 2]}], "--tokens", "ids")
    for name in "ab":
        assert shard_reader.read_dataset(tmp_path / name)[0]["tokens"].tolist() == [1, 2]
    assert "--tokens KEY" in refused("pack", "-o", tmp_path / "c", tmp_path / "b.jsonl")


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_jobs_change_no_byte(tmp_path, jobs):
    rows = harness.random_rows(4000, longest=60)
    options = ("--block", "4KiB", "--shard", "40KiB", "--level", "3", "--pad-id", "7")
    once = harness.pack(tmp_path / "once", rows, *options, "--jobs", "1")
    again = harness.pack(tmp_path / "again", rows, *options, "--jobs", str(jobs))
    assert directory_bytes(once) == directory_bytes(again)
    dataset = shard_reader.read_dataset(again)
    assert len(dataset.shards) > 2 and dataset.pad_id == 7
    assert [dataset[i]["tokens"].tolist() for i in range(len(rows))] == [r["tokens"] for r in rows]
    harness.tool("verify", again, "--jobs", str(jobs))


def test_zstd_accepts_every_shard(tmp_path):
    directory = harness.pack(tmp_path / "d", harness.random_rows(2000), "--block", "4KiB",
                             "--shard", "16KiB")
    shards = sorted(directory.glob("*.zst"))
    assert len(shards) > 1
    for shard in shards:
        subprocess.run(["zstd", "-t", "-q", str(shard)], check=True)
        listed = subprocess.run(["zstd", "-l", str(shard)], check=True, capture_output=True,
                                text=True).stdout
        assert "XXH64" in listed
        raw = subprocess.run(["zstd", "-dc", "-q", str(shard)], check=True, capture_output=True)
        assert raw.stdout.startswith(b"SQBK")


def test_text_by_line_and_by_paragraph(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"first\nsecond\r\n\n\n  \nthird \xff\x00x")
    two.write_bytes(b"\n\nlast\n")
    harness.tool("pack", "--text", "--label", "file", "-o", tmp_path / "l", one, two)
    lines = shard_reader.read_dataset(tmp_path / "l")
    assert [bytes(lines[i]["tokens"]) for i in range(len(lines))] == [
        b"first", b"second", b"  ", b"third \xff\x00x", b"last"]
    assert [int(lines[i]["label"]) for i in range(len(lines))] == [0, 0, 0, 0, 1]
    assert lines.label_names == ["one", "two"]
    harness.tool("pack", "--text", "--text-by", "paragraph", "-o", tmp_path / "p", one, two)
    paragraphs = shard_reader.read_dataset(tmp_path / "p")
    assert [bytes(paragraphs[i]["tokens"]) for i in range(len(paragraphs))] == [
        b"first\nsecond", b"third \xff\x00x", b"last"]
    assert paragraphs.columns[0].type == "u8" and len(paragraphs.columns) == 1


@pytest.mark.skipif(len(LICENCES) < 3, reason="no /usr/share/common-licenses here")
def test_real_text_survives(tmp_path):
    harness.tool("pack", "--text", "-o", tmp_path / "d", *LICENCES)
    dataset = shard_reader.read_dataset(tmp_path / "d")
    want = [line for path in LICENCES for line in path.read_bytes().split(b"\n") if line]
    assert [bytes(dataset[i]["tokens"]) for i in range(len(dataset))] == want


def test_a_long_sequence_has_its_own_block(tmp_path):
    rows = [{"tokens": [1, 2]}, {"tokens": list(range(9000))}, {"tokens": [3]}]
    dataset = shard_reader.read_dataset(harness.pack(tmp_path / "d", rows, "--block", "4KiB"))
    assert [block.sequences for block in dataset.blocks] == [1, 1, 1]
    assert dataset[1]["tokens"].tolist() == list(range(9000))


@pytest.mark.slow
def test_a_sequence_that_fits_no_block_is_refused(tmp_path):
    source = tmp_path / "t"
    source.write_bytes(b"short\n" + b"x" * (64 << 20) + b"\n")
    assert f"{source}:2: " in refused("pack", "--text", "-o", tmp_path / "d", source)
    assert not (tmp_path / "d").exists()


GOOD = {"tokens": [1, 2], "label": 1, "mask": [0, 1], "score": 1.5}


@pytest.mark.parametrize("row, line, words", [
    ({**GOOD, "label": 0.5}, 2, "--column label:sequence:f32"),
    ({**GOOD, "label": [1, 2]}, 2, "--column label:ragged:i64"),
    ({**GOOD, "mask": [1]}, 2, "--column mask:ragged:i64"),
    ({**GOOD, "mask": 4}, 2, "should be a list"),
    ({**GOOD, "mask": [[1, 2], [3, 4]]}, 2, "--column mask:token:i64:2"),
    ({**GOOD, "mask": "x"}, 2, "should be numbers"),
    ({**GOOD, "more": 3}, 2, "--column more:"),
    ({"tokens": [1], "label": 1}, 2, '"mask" is missing'),
    ({**GOOD, "score": 1e300}, 2, "does not fit f32"),
    ({**GOOD, "tokens": 5}, 2, '"tokens"'),
])
def test_a_row_that_differs_is_refused_with_its_place(tmp_path, row, line, words):
    source = harness.write_jsonl(tmp_path / "rows.jsonl", [GOOD, row])
    said = refused("pack", "-o", tmp_path / "d", source)
    assert f"{source}:{line}: " in said and words in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


@pytest.mark.parametrize("text, words", [
    ('{"tokens": [1, 2}', "comma"), ("[1]", "JSON"), ('{"tokens": [NaN]}', "number"),
    ('{"tokens": [1]} x', "behind"), ('{"tokens": [1], "tokens": [2]}', "twice"),
    ('{"tokens": [99999999999999999999]}', "64 bits"), ('{"tokens": [[1], [1, 2]]}', "lengths"),
    ('{"label": 1}', "--tokens KEY"), ('{"tokens": "abc"}', "--tokens KEY"),
    ('{"tokens": [1], "x": []}', "--column x:ragged:i64"),
    ('{"tokens": [], "x": []}', "--column x:token:i64"),
])
def test_a_bad_first_row_is_refused_with_its_place(tmp_path, text, words):
    source = tmp_path / "rows.jsonl"
    source.write_text("\n" + text + "\n")
    said = refused("pack", "-o", tmp_path / "d", source)
    assert f"{source}:2: " in said and words in said, said


def test_tokens_that_do_not_fit_name_the_option(tmp_path):
    source = harness.write_jsonl(tmp_path / "rows.jsonl", [{"tokens": [1]}, {"tokens": [70000]}])
    said = refused("pack", "-o", tmp_path / "d", "--token-type", "u16", source)
    assert f"{source}:2: 70000" in said and "--token-type u24" in said
    said = refused("pack", "-o", tmp_path / "d", "-", input='{"tokens": [-1]}\n')
    assert "standard input:1: -1" in said and "--token-type i64" in said
    assert "--pad-id" in refused("pack", "-o", tmp_path / "d", "--pad-id", "-1", source)


def test_nothing_to_pack_is_refused(tmp_path):
    (tmp_path / "empty").write_text("")
    (tmp_path / "blank").write_text("\n \n\n")
    for name in ("empty", "blank"):
        assert "not one sequence" in refused("pack", "-o", tmp_path / "d", tmp_path / name)
    assert "not one sequence" in refused("pack", "--text", "-o", tmp_path / "d", tmp_path / "empty")
    assert "cannot read" in refused("pack", "-o", tmp_path / "d", tmp_path / "absent")
    assert "directory" in refused("pack", "-o", tmp_path / "d", tmp_path)
    assert not (tmp_path / "d").exists()


def test_wrong_usage(tmp_path):
    source = harness.write_jsonl(tmp_path / "rows.jsonl", [GOOD])
    for wrong in (("pack",), ("pack", source), ("pack", "-o", "d"), ("pack", "-o", "d", "-", "-"),
                  ("pack", "-o", "d", "--level", "23", source),
                  ("pack", "-o", "d", "--block", "4095", source),
                  ("pack", "-o", "d", "--block", "17MiB", source),
                  ("pack", "-o", "d", "--jobs", "0", source),
                  ("pack", "-o", "d", "--token-type", "u12", source),
                  ("pack", "-o", "d", "--column", "a:b", source),
                  ("pack", "-o", "d", "--column", "a:token:u12", source),
                  ("pack", "-o", "d", "--column", "A:token:u8", source),
                  ("pack", "-o", "d", "--column", "lengths:token:u8", source),
                  ("pack", "-o", "d", "--label", "file", source),
                  ("pack", "-o", "d", "--nonsense", source),
                  ("inspect",), ("verify",), ("verify", "--jobs", "x", "d"), ("salvage", "x")):
        usage(*wrong)
    assert "Usage" in harness.tool("pack", "--help").stdout
    assert harness.tool("--version").stdout.startswith("seqfeed ")


def test_only_empty_places_and_old_datasets_are_written_to(tmp_path):
    rows, other = harness.random_rows(50), harness.random_rows(60, seed=2)
    directory = tmp_path / "d"
    directory.mkdir()
    inode = directory.stat().st_ino
    harness.pack(directory, rows)
    assert directory.stat().st_ino == inode and len(shard_reader.read_dataset(directory)) == 50
    before = directory_bytes(directory)
    assert "--force" in refused("pack", "-o", directory, tmp_path / "d.jsonl")
    (tmp_path / "bad").write_text('{"tokens": [1]}\n{"tokens": 1}\n')
    refused("pack", "-o", directory, "--force", tmp_path / "bad")
    assert directory_bytes(directory) == before
    harness.pack(directory, other, "--force")
    assert len(shard_reader.read_dataset(directory)) == 60
    (directory / "notes").write_text("mine")
    assert "more than a dataset" in refused("pack", "-o", directory, "--force",
                                            tmp_path / "d.jsonl")
    assert (directory / "notes").exists()
    assert "is a file" in refused("pack", "-o", tmp_path / "d.jsonl", tmp_path / "bad")


def lines_of_noise(tmp_path):
    source = tmp_path / "noise"
    rng = random.Random(1)
    source.write_bytes(b"\n".join(rng.randbytes(1000).replace(b"\n", b"x") for _ in range(4000)))
    return source


def test_a_file_limit_leaves_nothing_behind(tmp_path):
    source = lines_of_noise(tmp_path)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "d", tmp_path / "empty"):
        ran = subprocess.run([harness.TOOL, "pack", "--text", "-o", directory, source],
                             capture_output=True, text=True, preexec_fn=limit, check=False)
        assert ran.returncode == 1 and "ulimit -f" in ran.stderr, ran.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "noise"]


def begun_pack(directory, around):
    """A pack that waits for the rest of its input, its temporary directory made."""
    process = subprocess.Popen([harness.TOOL, "pack", "--token-type", "u16", "-o", directory, "-"],
                               stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdin.write(b'{"tokens": [1, 2]}\n' * 2000)
    process.stdin.flush()
    deadline = time.monotonic() + 10 * harness.PATIENCE
    while not list(around.rglob(f"*tmp-{process.pid}-*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    return process


def test_what_a_killed_pack_left_goes_with_the_next_one(tmp_path):
    """But not what another process is still filling, nor anything else of a like name."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"tokens": [1, 2, 3]}\n')
    (tmp_path / "in").mkdir()
    kept = [tmp_path / "d.tmp-notes", tmp_path / "d.tmp-1-x", tmp_path / "e.tmp-1-0"]
    for path in kept:
        path.mkdir()
    for directory in (tmp_path / "d", tmp_path / "in"):
        killed = begun_pack(directory, tmp_path)
        killed.kill()
        killed.wait()
        left = list(tmp_path.rglob(f"*tmp-{killed.pid}-*"))
        assert left
        alive = begun_pack(directory, tmp_path)
        assert not left[0].exists()
        if directory.name == "d":
            harness.tool("pack", "-o", directory, rows)
            shutil.rmtree(directory)
        alive.stdin.close()
        assert alive.wait() == 0
        harness.tool("verify", directory)
    assert all(path.is_dir() for path in kept)
    assert [path.name for path in tmp_path.rglob("*.tmp-*-0")] == ["e.tmp-1-0"]
    assert not list((tmp_path / "in").glob(".tmp-*"))


def test_a_byte_order_mark_is_stepped_over(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"\xef\xbb\xbf" + b'{"tokens": [1, 2, 3]}\n')
    harness.tool("pack", "-o", tmp_path / "d", rows)
    assert json.loads(harness.tool("inspect", "--json", tmp_path / "d").stdout)["tokens"] == 3


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    source = lines_of_noise(tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)],
                             capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk here")
    try:
        for directory in (disk / "d", disk):
            said = refused("pack", "--text", "-o", directory, source)
            assert "No space left" in said
            assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(tmp_path, number):
    process = subprocess.Popen([harness.TOOL, "pack", "-o", tmp_path / "d", "-"],
                               stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write('{"tokens": [1]}\n' * 1000)
    process.stdin.flush()
    harness.wait_until(lambda: any(tmp_path.iterdir()), "pack has not begun")
    process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 1 and "interrupted" in said
    assert list(tmp_path.iterdir()) == []


def test_inspect_shows_what_is_there(tmp_path):
    rows = harness.random_rows(501, longest=80)
    source = harness.write_jsonl(tmp_path / "rows.jsonl", rows)
    directory = tmp_path / "d"
    packed = json.loads(harness.tool("pack", "--json", "-o", directory, "--block", "4KiB",
                                     "--shard", "8KiB", source).stdout)
    lengths = [len(row["tokens"]) for row in rows]
    shown = json.loads(harness.tool("inspect", "--json", directory).stdout)
    files = [path.stat().st_size for path in directory.glob("*.zst")]
    assert packed.items() <= shown.items()
    assert shown["sequences"] == 501 and shown["tokens"] == sum(lengths)
    assert shown["shards"] == len(files) and shown["bytes"] == sum(files)
    assert shown["lengths"] == {"min": min(lengths), "median": numpy.median(lengths),
                                "max": max(lengths)}
    assert [column["name"] for column in shown["columns"]][0] == "tokens"
    text = harness.tool("inspect", directory).stdout
    assert text.rstrip().endswith("batch: {size: 64}") and f'dataset: "{directory}"' in text
    shard = json.loads(harness.tool("inspect", "--json", sorted(directory.glob("*.zst"))[0]).stdout)
    assert shard["shards"] == 1 and shard["sequences"] < 501
    assert "not a dataset" in refused("inspect", tmp_path)
    assert "not a shard" in refused("inspect", harness.write_jsonl(tmp_path / "x", rows * 20))


def test_an_even_number_of_lengths_has_a_median_between_two(tmp_path):
    harness.pack(tmp_path / "d", [{"tokens": [1] * n} for n in (1, 2, 70000, 70003)])
    shown = json.loads(harness.tool("inspect", "--json", tmp_path / "d").stdout)
    assert shown["lengths"]["median"] == 35001
    harness.pack(tmp_path / "e", [{"tokens": [1] * n} for n in (70003, 1, 70000, 80001)])
    shown = json.loads(harness.tool("inspect", "--json", tmp_path / "e").stdout)
    assert shown["lengths"]["median"] == 70001.5


def flip(path, offset, bit=0):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_verify_names_the_damage(tmp_path):
    rows = harness.random_rows(600, longest=60)
    directory = harness.pack(tmp_path / "d", rows, "--block", "4KiB", "--shard", "12KiB")
    assert json.loads(harness.tool("verify", "--json", directory).stdout) == {"ok": True,
                                                                             "damage": []}
    shards = sorted(directory.glob("*.zst"))
    flip(shards[0], 4096 + 40)
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    ran = harness.tool("verify", "--json", directory, check=False)
    found = json.loads(ran.stdout)
    assert ran.returncode == 1 and found["ok"] is False
    assert found["damage"][0] == {"file": shards[0].name, "block": 0, "offset": 4096,
                                  "what": "its checksum does not match"}
    assert found["damage"][1]["file"] == shards[1].name and found["damage"][1]["block"] is None
    text = harness.tool("verify", directory, check=False)
    assert text.returncode == 1 and "salvage" in text.stdout
    shards[2].unlink()
    found = json.loads(harness.tool("verify", "--json", directory, check=False).stdout)
    assert any(damage["file"] == shards[2].name for damage in found["damage"])


def test_verify_sees_a_sample_of_all_bits(tmp_path):
    directory = harness.pack(tmp_path / "d", harness.random_rows(30))
    rng = random.Random(5)
    for path in directory.iterdir():
        good = path.read_bytes()
        for _ in range(20):
            flip(path, rng.randrange(len(good)), rng.randrange(8))
            assert harness.tool("verify", directory, check=False).returncode == 1
            path.write_bytes(good)
        for size in (0, 1, len(good) // 2, len(good) - 1):
            path.write_bytes(good[:size])
            assert harness.tool("verify", directory, check=False).returncode == 1
        path.write_bytes(good + b"\n")
        assert harness.tool("verify", directory, check=False).returncode == 1
        path.write_bytes(good)
    harness.tool("verify", directory)


def test_two_shards_that_change_places_are_noticed(tmp_path):
    directory = harness.pack(tmp_path / "d", harness.random_rows(600), "--block", "4KiB",
                             "--shard", "8KiB")
    one, two = sorted(directory.glob("*.zst"))[:2]
    one.rename(tmp_path / "x")
    two.rename(one)
    (tmp_path / "x").rename(two)
    assert "describes" in harness.tool("verify", directory, check=False).stdout
    assert "describes" in refused("inspect", directory)


def test_salvage_keeps_what_is_whole(tmp_path):
    rows = harness.random_rows(600, longest=60)
    directory = harness.pack(tmp_path / "d", rows, "--block", "4KiB")
    dataset = shard_reader.read_dataset(directory)
    starts = numpy.cumsum([0] + [block.sequences for block in dataset.blocks])
    shard = directory / "shard-00000.zst"
    good = shard.read_bytes()
    offsets = 4096 + numpy.cumsum([0] + [entry[0] for entry in dataset.shards[0].entries])
    lost = [0, 3]
    for block in lost:
        flip(shard, int(offsets[block]) + 30)
    kept = [rows[i] for b in range(len(dataset.blocks)) if b not in lost
            for i in range(starts[b], starts[b + 1])]

    said = harness.tool("salvage", shard, "-o", tmp_path / "one.zst").stdout
    assert "lost block 0," in said and "lost block 3," in said and "dataset.json" in said
    harness.tool("verify", tmp_path / "one.zst")
    harness.tool("salvage", tmp_path / "one.zst", "-o", f"{tmp_path}/two/")
    harness.tool("salvage", directory, "-o", tmp_path / "three")
    for name in ("two", "three"):
        saved = shard_reader.read_dataset(tmp_path / name)
        assert [saved[i]["tokens"].tolist() for i in range(len(saved))] == [
            row["tokens"] for row in kept]
    assert "is there already" in refused("salvage", shard, "-o", tmp_path / "one.zst")

    # The index is gone, bytes are missing in the middle, and the header is damaged as well.
    cut = int(offsets[5]) + 10
    shard.write_bytes(good[:cut] + good[cut + 7:int(offsets[9]) + 5])
    flip(shard, 20)
    said = harness.tool("salvage", shard, "-o", tmp_path / "four.zst").stdout
    assert "lost block 5," in said and "its index is damaged" in said
    assert shard_reader.read_shard(tmp_path / "four.zst").sequences == \
        starts[9] - (starts[6] - starts[5])
    shard.write_bytes(b"nothing of it is left" * 1000)
    assert "nothing to save" in harness.tool("salvage", shard, "-o", tmp_path / "five.zst",
                                             check=False).stderr
    assert not (tmp_path / "five.zst").exists()


@pytest.mark.speed
def test_memory_does_not_grow_with_the_input(tmp_path):
    def peak(lines):
        source = tmp_path / "rows.jsonl"
        row = '{"tokens": [%s], "label": 1}\n' % ", ".join(str(i * 37 % 5000) for i in range(400))
        source.write_text(row * lines)
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        most = 0
        with subprocess.Popen([harness.TOOL, "pack", "--level", "1", "--jobs", "2", "-o",
                               tmp_path / "d", source], stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:  # what wait4() tells includes this process, which began it
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                most = max(most, *map(int, re.findall(r"VmHWM:\s*(\d+)", status)), 0)
                time.sleep(0.002)
        assert process.returncode == 0
        return most

    small, large = peak(2000), peak(20000)
    assert large < small + 4096, (small, large)
