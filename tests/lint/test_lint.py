# SPDX-License-Identifier: MIT
"""The rules of the house hold, and each rule is seen to fail on a planted violation."""
import os
import pathlib
import re
import shutil
import subprocess

import check_headers
import check_layers
import check_text
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SEQFEED_BUILD", ROOT / "build"))


def has_universal_ctags():
    if not shutil.which("ctags"):
        return False
    said = subprocess.run(["ctags", "--version"], capture_output=True, text=True, check=False)
    return "Universal Ctags" in said.stdout


needs_ctags = pytest.mark.skipif(not has_universal_ctags(),
                                 reason="no Universal Ctags here (universal-ctags)")
needs_shellcheck = pytest.mark.skipif(not shutil.which("shellcheck"),
                                      reason="no shellcheck here (shellcheck)")
needs_groff = pytest.mark.skipif(not shutil.which("groff"), reason="no groff here (groff-base)")


def plant(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- layers --------------------------------------------------------------------------------------

def test_every_include_is_allowed():
    assert check_layers.check(ROOT) == []


@pytest.mark.parametrize("name, include, said", [
    ("src/base/a.c", '"shard/catalog.h"', "base must not include shard"),
    ("src/plan/a.h", '"shard/catalog.h"', "plan must not include shard"),
    ("src/plan/a.c", "<stdio.h>", "plan is pure"),
    ("src/plan/a.c", '"base/clock.h"', "plan is pure"),
    ("src/server/a.c", '"pipeline/stream.h"', "only pipeline/pipeline.h"),
    ("src/server/a.c", "<yaml.h>", "belongs to src/settings"),
    ("src/pipeline/fetch_pread.c", "<liburing.h>", "fetch_uring.c"),
    ("src/format/a.h", "<string.h>", "format may include only"),
    ("src/shard/a.c", '"nowhere.h"', "no header of this project"),
    ("include/seqfeed/a.h", '"base/error.h"', "include must not include base"),
    ("src/attic/a.c", "<stdint.h>", "no row in the table"),
], ids=str)
def test_a_planted_include_is_found(tmp_path, name, include, said):
    for folder in check_layers.ALLOWED:
        (tmp_path / "src" / folder).mkdir(parents=True, exist_ok=True)
    plant(tmp_path, name, f"/* SPDX */\n#include {include}\n")
    problems = check_layers.check(tmp_path)
    assert len(problems) == 1
    assert said in problems[0]


def test_a_folder_may_include_itself_and_what_the_table_says(tmp_path):
    for folder in check_layers.ALLOWED:
        (tmp_path / "src" / folder).mkdir(parents=True, exist_ok=True)
    plant(tmp_path, "src/feed/a.c", '#include "feed/feed.h"\n#include "plan/plan.h"\n#include <math.h>\n')
    assert check_layers.check(tmp_path) == []


def test_the_table_in_the_documentation_is_the_one_that_is_checked():
    text = (ROOT / "docs/architecture.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", text, re.MULTILINE))
    assert set(rows) == set(check_layers.ALLOWED)
    for folder, allowed in check_layers.ALLOWED.items():
        assert set(re.findall(r"`(\w+)`", rows[folder])) == allowed, folder


# --- text ----------------------------------------------------------------------------------------

def test_licences_sizes_words_links_and_names():
    assert check_text.check(ROOT) == []


@pytest.mark.parametrize("name, text, said", [
    ("src/base/a.c", "int a;\n", "SPDX"),
    ("src/base/a.c", "/* SPDX-License-Identifier: MIT */\n" + "\n" * 700, "more than 600"),
    ("src/base/a.c", "/* SPDX-License-Identifier: MIT */\n/* TO" "DO: later */\n", "left for later"),
    ("docs/a.md", "see /wo" "rk/place\n", "a path of one machine"),
    ("docs/a.md", "[text](nowhere.md)\n", "leads nowhere"),
], ids=["licence", "size", "words", "machine", "link"])
def test_a_planted_text_is_found(tmp_path, name, text, said):
    plant(tmp_path, name, text)
    problems = check_text.check(tmp_path)
    assert len(problems) == 1
    assert said in problems[0]


def test_two_files_of_one_name_are_found(tmp_path):
    for folder in ("shard", "ring"):
        plant(tmp_path, f"src/{folder}/reader.c", "/* SPDX-License-Identifier: MIT */\n")
    problems = check_text.check(tmp_path)
    assert len(problems) == 1
    assert "of this name already" in problems[0]


@needs_ctags
def test_no_function_is_longer_than_70_lines():
    assert check_text.check_functions(ROOT) == []


@needs_ctags
def test_a_planted_long_function_is_found(tmp_path):
    plant(tmp_path, "src/base/a.c", "int a(void) {\n" + "    ;\n" * 80 + "    return 0;\n}\n")
    problems = check_text.check_functions(tmp_path)
    assert len(problems) == 1
    assert "a has 83 lines" in problems[0]


# --- headers -------------------------------------------------------------------------------------

def test_every_header_compiles_alone():
    assert check_headers.check(ROOT) == []


def test_a_planted_header_that_leans_on_others_is_found(tmp_path):
    plant(tmp_path, "src/base/a.h", "#pragma once\nuint32_t a(void);\n")
    problems = check_headers.check(tmp_path)
    assert len(problems) == 1
    assert "does not compile alone" in problems[0]


MERGED = BUILD / "include/seqfeed/seqfeed.h"
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


@pytest.mark.parametrize("compiler, language, standard", [
    ("gcc", "c", "c11"), ("gcc", "c", "c17"), ("g++", "c++", "c++17"), ("g++", "c++", "c++20"),
])
@pytest.mark.parametrize("first", ["", "#include <stdio.h>\n#include <unistd.h>\n"],
                         ids=["first", "last"])
def test_the_merged_client_header_compiles_everywhere(tmp_path, compiler, language, standard, first):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} here")
    source = plant(tmp_path, "a.c", f'{first}#include "seqfeed/seqfeed.h"\n'
                   '#include "seqfeed/seqfeed.h"\nint main(void) { return 0; }\n')
    ran = subprocess.run([compiler, "-x", language, f"-std={standard}", *STRICT, f"-I{BUILD}/include",
                          str(source), "-o", str(tmp_path / "a"), "-pthread"],
                         capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


# --- scripts and manual --------------------------------------------------------------------------

@needs_shellcheck
def test_scripts_pass_shellcheck():
    scripts = [ROOT / "dev", ROOT / ".ci/run", ROOT / "tests/python/from_nothing", ROOT / "tests/python/sanitized"]
    ran = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


PAGES = ["seqfeed.1", "seqfeedd.8", "seqfeedd.yaml.5", "libseqfeed.3"]


@needs_groff
@pytest.mark.parametrize("page", PAGES)
def test_a_manual_page_has_no_warnings(page):
    ran = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", "-rLL=78n", str(ROOT / "docs/man" / page)],
                         capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and ran.stderr == "", ran.stderr


@needs_groff
@pytest.mark.parametrize("page", PAGES)
def test_a_manual_page_breaks_no_names_and_fits_80_columns(page):
    ran = subprocess.run(["groff", "-man", "-Tutf8", "-rLL=80n", "-P-cbou", str(ROOT / "docs/man" / page)],
                         capture_output=True, text=True, check=True)
    for line in ran.stdout.splitlines():
        assert not line.endswith(("\u2010", "-")) and len(line) <= 80, line


def help_of(*command):
    ran = subprocess.run([str(BUILD / command[0]), *command[1:], "--help"], capture_output=True,
                         text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def manual(page):
    """The text of a page with the hyphens that roff escapes."""
    return (ROOT / "docs/man" / page).read_text().replace("\\-", "-")


def subcommands():
    """The first word of each indented line that the tool's help lists."""
    return sorted(set(re.findall(r"^  +([a-z]+)\b", help_of("seqfeed"), re.MULTILINE)))


def test_every_subcommand_and_option_is_in_the_manual():
    page = manual("seqfeed.1")
    assert len(subcommands()) >= 9
    for name in subcommands():
        assert re.search(rf'^\.SS.*\b{name}\b', page, re.MULTILINE), f"seqfeed {name} has no section"
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of("seqfeed", name))):
            assert option in page, f"seqfeed {name} {option} is not in the manual"


LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
WORD = r"(?<![\w-])--[a-z][a-z-]*"


def sentences(path):
    """The string literals of a C or Python file, neighbours joined as the compiler joins them."""
    code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    joined = re.sub(r'"\s*\n?\s*"', "", code)
    return [found[1].replace('\\"', '"') for found in LITERAL.finditer(joined)]


def options_of(*command):
    """The options of a command by its help; those of a command that there is not are none."""
    ran = subprocess.run([str(BUILD / command[0]), *command[1:], "--help"], capture_output=True,
                         text=True, check=False)
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", ran.stdout)) if ran.returncode == 0 else None


def wrong_hints(path, known):
    """What the sentences of a file tell people to run and cannot be run so."""
    problems = []
    for sentence in sentences(path):
        for command, rest in re.findall(r"(?<![\w./-])seqfeed ([a-z]+)([^';|)]*)", sentence):
            if command not in known:
                if re.search(rf"['`(]seqfeed {command}", sentence):
                    problems.append(f"{path}: there is no 'seqfeed {command}'")
                continue
            words = re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest.split(" -- ")[0])
            problems += [f"{path}: 'seqfeed {command}' has no {word}" for word in words
                         if word not in known[command]]
    return problems


def options_known():
    return {name: options_of("seqfeed", name) for name in subcommands()}


def test_what_messages_tell_people_to_run_can_be_run():
    known, problems, hints = options_known(), [], 0
    for folder in ("src", "include", "bindings/python", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".c", ".h", ".py"):
                problems += wrong_hints(path, known)
                hints += sum("'seqfeed " in sentence for sentence in sentences(path))
    assert problems == []
    assert hints >= 8


@pytest.mark.parametrize("sentence, said", [
    ("run 'seqfeed mend %s'", "there is no 'seqfeed mend'"),
    ("run 'seqfeed salvage %s -o NEW --for\" \"ce'", "'seqfeed salvage' has no --force"),
    ("try seqfeed pack -x", "'seqfeed pack' has no -x"),
], ids=str)
def test_a_planted_hint_that_leads_nowhere_is_found(tmp_path, sentence, said):
    problems = wrong_hints(plant(tmp_path, "a.c", f'error_set(error, -1,\n  "{sentence}");\n'), options_known())
    assert len(problems) == 1
    assert said in problems[0]


def test_a_command_speaks_of_its_own_options_only():
    """--NAME without a command before it, in a file of the tool, is one of that command."""
    shared = {"trainer": "cat", "request": "status", "input": "pack"}
    known, checked = options_known(), 0
    for path in sorted((ROOT / "src/tool").glob("*.c")):
        name = path.stem.split("_")[0]
        options = known.get(shared.get(name, name))
        if options is None:
            continue
        for sentence in sentences(path):
            if "seqfeed" in sentence or re.fullmatch(WORD, sentence):
                continue  # seen above, or an argument for a program
            for word in re.findall(WORD, sentence):
                assert word in options, f"{path}: seqfeed {name} has no {word}"
                checked += 1
    assert checked >= 30


def test_every_option_of_the_daemon_is_in_the_manual():
    page = manual("seqfeedd.8")
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of("seqfeedd"))):
        assert option in page


def test_every_function_of_the_client_is_in_the_manual():
    page = manual("libseqfeed.3")
    text = "".join(path.read_text() for path in (ROOT / "include/seqfeed").glob("*.h"))
    public = set(re.findall(r"^SEQFEED_API\b[^;{(]*?\b(seqfeed_[a-z_]+)\(", text, re.MULTILINE))
    assert len(public) >= 9
    for name in public:
        assert name in page, f"{name} is not in libseqfeed(3)"
