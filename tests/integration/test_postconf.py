"""Our reader of master.cf against ``postconf`` of this host, on random files."""

from __future__ import annotations

import os
import random
import shutil

import pytest

from tests.differential import postfix


@pytest.fixture(autouse=True)
def machine_untouched():
    """These tests write to a directory of their own, without a lab."""


def test_random_files_are_read_as_postconf_reads_them(tmp_path):
    if not shutil.which("postconf"):
        if os.environ.get("REQUIRE_LAB") == "1":
            pytest.fail("this test needs the package postfix", pytrace=False)
        pytest.skip("this test needs the package postfix")
    for seed in range(300):
        text = postfix.make(random.Random(seed))
        assert postfix.compare(text, tmp_path) == "", f"seed {seed}: {text!r}"
