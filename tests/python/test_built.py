# SPDX-License-Identifier: MIT
"""Is the package here at all, and does it need what it should not?"""
import os
import subprocess
import sys

import pytest
from conftest import HAS_PACKAGE, PACKAGE

needs_package = pytest.mark.skipif(
    not HAS_PACKAGE, reason="the Python package was not built (python3-dev, and no sanitizer)")


@needs_package
def test_the_import_needs_neither_torch_nor_numpy():
    code = ("import sys, seqfeed; "
            "assert not {'torch', 'numpy', 'jax', 'datasets'} & set(sys.modules), sys.modules; "
            "print(seqfeed.__version__)")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         env={**os.environ, "PYTHONPATH": str(PACKAGE)})
    assert ran.stdout.count(".") == 2


@needs_package
def test_what_is_public_has_words():
    import seqfeed
    for name in seqfeed.__all__:
        if name != "__version__":
            assert getattr(seqfeed, name).__doc__, name
