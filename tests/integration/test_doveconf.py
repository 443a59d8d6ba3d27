"""Our reader of Dovecot's language against the ``doveconf`` of this host, on random configurations."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.differential import dovecot


@pytest.fixture
def judge():
    if not shutil.which("doveconf"):
        if os.environ.get("REQUIRE_LAB") == "1":
            pytest.fail("the tests of the reader need the package dovecot-core", pytrace=False)
        pytest.skip("the tests of the reader need the package dovecot-core")
    made = dovecot.Judge()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def machine_untouched():
    """These tests write to a directory of their own, without a lab."""


@pytest.mark.parametrize("number", [300, pytest.param(1500, marks=pytest.mark.long)])
def test_random_configurations_are_read_as_dovecot_reads_them(judge, number):
    done, reports = dovecot.run(judge, number, seed=1)
    assert not reports, "\n".join(reports)
    assert done == number
