# SPDX-License-Identifier: MIT
"""Is the package here at all, and does it need what it should not?"""
import ast
import importlib
import inspect
import os
import re
import subprocess
import sys

import pytest
from conftest import HAS_PACKAGE, PACKAGE

needs_package = pytest.mark.skipif(
    not HAS_PACKAGE, reason="the Python package was not built (python3-dev, and no sanitizer)")


# What every class has, or shows in some versions of Python only.
HIDDEN = {"__new__", "__doc__", "__module__", "__buffer__", "__release_buffer__", "__annotations__"}


@needs_package
def test_the_import_needs_neither_torch_nor_numpy():
    code = ("import sys, seqfeed; "
            "assert not {'torch', 'numpy', 'jax', 'datasets'} & set(sys.modules), sys.modules; "
            "print(seqfeed.__version__)")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         env={**os.environ, "PYTHONPATH": str(PACKAGE)})
    assert ran.stdout.count(".") == 2


def members(tree):
    """Names of a class's body in a stub."""
    for each in tree.body:
        if isinstance(each, ast.FunctionDef):
            yield each.name
        elif isinstance(each, ast.AnnAssign):
            yield each.target.id


@needs_package
def test_the_stub_tells_of_the_extension_what_it_has():
    from seqfeed import _seqfeed
    stub = ast.parse((PACKAGE / "seqfeed" / "_seqfeed.pyi").read_text())
    told = {each.name: each for each in stub.body if isinstance(each, (ast.ClassDef, ast.FunctionDef))}
    assert set(told) | {"version"} == {name for name in vars(_seqfeed) if not name.startswith("__")}
    for name, tree in told.items():
        if isinstance(tree, ast.ClassDef):
            has = {member for member in vars(getattr(_seqfeed, name)) if member not in HIDDEN}
            # Before Python 3.12 a type that has buffers does not show it.
            assert {member for member in members(tree) if member not in HIDDEN} == has, name


@needs_package
@pytest.mark.parametrize("name", ["attach", "pack", "tokenize", "torch.Loader", "jax.Loader", "hf.TrainerMixin"])
def test_every_argument_has_words(name):
    """help() tells of each, and of those that go on to attach() too."""
    module, _, what = f"seqfeed.{name}".rpartition(".")
    if module != "seqfeed":
        for needed in {"hf": ["torch", "transformers"]}.get(module.rpartition(".")[2], [module.rpartition(".")[2]]):
            pytest.importorskip(needed, reason=f"no {needed} here")
    function = getattr(importlib.import_module(module), what)
    known = inspect.signature(function).parameters.values()
    names = [each.name for each in known if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    if name == "torch.Loader":
        names += list(inspect.signature(importlib.import_module("seqfeed").attach).parameters)
    missing = [each for each in names if not re.search(rf"\b{each}\b", inspect.getdoc(function) or "")]
    assert names and not missing


@needs_package
def test_what_is_public_has_words():
    import seqfeed
    for name in seqfeed.__all__:
        if name == "__version__":
            continue
        each = getattr(seqfeed, name)
        assert each.__doc__, name
        for member, value in vars(each).items() if isinstance(each, type) else ():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{member}"
