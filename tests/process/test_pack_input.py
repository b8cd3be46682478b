# SPDX-License-Identifier: MIT
"""pack is given something else than JSON lines: it says what that is, and what it says to do helps."""
import bz2
import gzip
import json
import lzma
import os
import re
import shutil
import subprocess
import sys

import harness
import pytest

sys.path.insert(0, str(harness.ROOT / "tests" / "reference"))
import shard_reader  # noqa: E402

ROWS = [[1, 2, 3], [4, 5]]
OBJECTS = [{"tokens": row} for row in ROWS]
LINES = "".join(json.dumps(row) + "\n" for row in OBJECTS)


def refusal(tmp_path, name, data):
    """What pack says about a file of these bytes, without its own name and the file's."""
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    ran = harness.tool("pack", "-o", tmp_path / "d", path, check=False)
    assert ran.returncode == 1 and ran.stdout == ""
    assert ran.stderr.startswith(f"seqfeed pack: {path}:1: ")
    assert not (tmp_path / "d").exists()
    return ran.stderr.rstrip("\n")


def follow(tmp_path, said):
    """Run the command that the message ends with; the tokens that it packs."""
    command = re.search(r": ((?:zcat|bzcat|xzcat|iconv|jq) .*\| seqfeed pack -o \S+ -)$", said)
    assert command, said
    program = command[1].split()[0]
    if not shutil.which(program):
        pytest.skip(f"no {program} here")
    shell = command[1].replace("seqfeed pack", f"{harness.TOOL} pack")
    subprocess.run(["bash", "-o", "pipefail", "-c", shell], check=True, capture_output=True)
    saved = shard_reader.read_dataset(tmp_path / "d")
    return [saved[i]["tokens"].tolist() for i in range(len(saved))]


COMMANDS = [
    ("a.jsonl.gz", gzip.compress(LINES.encode()), "compressed with gzip"),
    ("a.jsonl.bz2", bz2.compress(LINES.encode()), "compressed with bzip2"),
    ("a.jsonl.xz", lzma.compress(LINES.encode()), "compressed with xz"),
    ("a.jsonl", LINES.encode("utf-16"), "text in UTF-16"),
    ("a.json", json.dumps(OBJECTS), "one JSON array"),
    ("b.json", json.dumps(OBJECTS, indent=2), "one JSON array"),
    ("c.json", json.dumps(ROWS), "one JSON array"),
    ("d.jsonl", "\ufeff" + "".join(json.dumps(row) + "\n" for row in ROWS), "a JSON list, and a row is an object"),
    ("e.json", "\n".join(json.dumps(row, indent=1) for row in OBJECTS), "goes on in the next line"),
    ("f.txt", "1 2 3\n4 5\n", "numbers, not JSON"),
    ("g.csv", "1,2,3\n4,5\n", "numbers, not JSON"),
]
ADVICE = [
    ("a.txt", "It was a dark, stormy night.\n", "this is text", "--text makes tokens of its bytes"),
    ("b.txt", "[Enter a ghost, in armour.]\n", "this is text", "seqfeed.tokenize("),
    ("a.csv", "text,label\nhello,1\n", "a table (CSV)", "csv.DictReader"),
    ("a.tsv", "text\tlabel\nhello\t1\n", "a table (CSV)", "seqfeed.pack("),
    ("a.json", '["one", "two"]\n', "these are strings", "tokenize them"),
    ("a.jsonl", '{"text": "hello", "id": 3}\n', 'the row has "text", "id"', "tokenized first"),
    ("b.jsonl", '{"ids": [3, 4], "id": 3}\n', 'under "tokens" or "input_ids"', "--tokens ids"),
    ("a.parquet", b"PAR1\x15\x04\n\x00", "a Parquet file", "seqfeed.pack()"),
    ("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr'}\n", "numpy", "seqfeed.pack()"),
    ("a.bin", bytes(range(1, 256)), "neither JSON nor text", "seqfeed.pack()"),
]


@pytest.mark.parametrize("name, data, said", COMMANDS, ids=[case[0] for case in COMMANDS])
def test_the_command_that_is_named_packs_the_rows(tmp_path, name, data, said):
    message = refusal(tmp_path, name, data)
    assert said in message
    assert follow(tmp_path, message) == ROWS


@pytest.mark.parametrize("name, data, said, advice", ADVICE, ids=[case[0] for case in ADVICE])
def test_what_it_is_and_what_to_do_is_said(tmp_path, name, data, said, advice):
    message = refusal(tmp_path, name, data)
    assert said in message and advice in message


def test_the_advice_for_text_packs_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    harness.tool("pack", "--text", "-o", tmp_path / "d", path)
    said = harness.tool("pack", "-o", tmp_path / "e", "-", check=False, input="one\n").stderr
    assert said.startswith("seqfeed pack: standard input:1: this is text")


def test_compressed_text_is_not_packed_as_it_is(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n"))
    ran = harness.tool("pack", "--text", "-o", tmp_path / "d", path, check=False)
    assert ran.returncode == 1 and "compressed with gzip, not text" in ran.stderr
    command = ran.stderr.strip().split(", not text: ")[1].replace("seqfeed pack", f"{harness.TOOL} pack")
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, capture_output=True)
    saved = shard_reader.read_dataset(tmp_path / "d")
    assert [bytes(saved[i]["tokens"].tolist()) for i in range(len(saved))] == [b"one", b"two"]


def test_a_slip_in_json_is_still_a_slip(tmp_path):
    assert refusal(tmp_path, "a.jsonl", '{"tokens": [1 2]}\n').endswith(
        'a comma or a closing bracket is missing (at byte 15, after the key "tokens")')


def test_a_shard_needs_no_packing(tmp_path):
    harness.pack(tmp_path / "d", OBJECTS)
    ran = harness.tool("pack", "-o", tmp_path / "e", tmp_path / "d/shard-00000.zst", check=False)
    assert ran.returncode == 1 and "a shard of seqfeed already" in ran.stderr


def test_a_pipe_is_read_once_and_whole(tmp_path):
    """Whoever waits to write to it must not be let go before it is its turn."""
    first, pipe = tmp_path / "first", tmp_path / "pipe"
    first.write_text("".join(f"{number}\n" for number in range(400000)))
    os.mkfifo(pipe)
    with subprocess.Popen(["/bin/sh", "-c", 'echo from the pipe > "$0"', str(pipe)]) as writer:
        harness.tool("pack", "--text", "-o", tmp_path / "d", first, pipe)
        assert writer.wait(harness.PATIENCE) == 0
    dataset = shard_reader.read_dataset(tmp_path / "d")
    assert len(dataset) == 400001 and bytes(dataset[400000]["tokens"]) == b"from the pipe"


def test_no_name_from_outside_is_put_into_a_command(tmp_path):
    for name in ("a$(id).csv", "a b.csv", "'x;y'.csv"):
        assert 'open("FILE")' in refusal(tmp_path, name, "text,label\nhello,1\n")
    assert " FILE | seqfeed pack " in refusal(tmp_path, "a;b.json", "[[1, 2], [3]]\n")
