# SPDX-License-Identifier: MIT
"""verify and salvage say what to do next, and it can be done."""
import json

import harness


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def refused(*arguments):
    ran = harness.tool(*arguments, check=False)
    assert ran.returncode == 1 and ran.stdout == ""
    return ran.stderr


def test_where_verify_sends_people_salvage_helps(tmp_path):
    """And what neither of them can do anything about, neither says so of the other."""
    rows = harness.random_rows(300, longest=60)
    directory = harness.pack(tmp_path / "d", rows, "--block", "4KiB", "--shard", "16KiB")
    flip(directory / "dataset.json", 40)
    said = harness.tool("verify", directory, check=False).stdout
    advised = said.split("'")[1]
    assert advised == f"seqfeed salvage {directory}/shard-00000.zst -o NEW/"
    assert advised.replace("NEW/", "DIR/") in refused("salvage", directory, "-o", tmp_path / "whole")
    for number, shard in enumerate(sorted(directory.glob("*.zst"))):
        harness.tool("salvage", shard, "-o", f"{tmp_path}/saved-{number}/")
        harness.tool("verify", tmp_path / f"saved-{number}")

    text = tmp_path / "text"
    text.write_text("no shard, and never was one\n")
    for command in (("verify",), ("inspect",), ("salvage", "-o", tmp_path / "x")):
        said = refused(*command, text)
        assert "is not a shard" in said and "salvage'" not in said and "verify'" not in said
    found = json.loads(harness.tool("verify", "--json", text, check=False).stdout)
    assert found["ok"] is False


def test_salvage_names_no_option_that_it_does_not_have(tmp_path):
    directory = harness.pack(tmp_path / "d", harness.random_rows(30))
    for source, target in ((directory, directory), (directory / "shard-00000.zst", f"{directory}/")):
        said = refused("salvage", source, "-o", target)
        assert "absent or empty" in said and "--force" not in said
