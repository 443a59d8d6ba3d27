"""Many names on one Dovecot: the memory of its config process, which it exceeds in silence."""

from __future__ import annotations

import pytest

from tests.integration import view
from tests.integration.test_install import INSTALL, NAME
from tests.integration.test_renew import CONFIGURATIONS

COUNT = 1200


@pytest.fixture
def crowded(mailhost):
    inner = view.tls("/etc/dovecot/private/dovecot.pem", "/etc/dovecot/private/dovecot.key", "  ")
    mailhost.write("/etc/dovecot/local.conf", "".join(f"local_name n{n}.test {{\n{inner}}}\n" for n in range(COUNT)))
    return mailhost


def test_a_reload_that_runs_out_of_memory_says_what_to_raise(crowded):
    if view.dovecot_version() >= (2, 4):
        pytest.skip("Dovecot 2.4 needs a tenth of the memory")
    # A small limit, so that it is met for sure: started with few names, and the many came later.
    text = view.read("/etc/dovecot/local.conf").decode()
    crowded.write("/etc/dovecot/local.conf", "service config {\n  vsz_limit = 100 M\n}\n")
    crowded.restart("dovecot")
    crowded.append("/etc/dovecot/local.conf", text)
    before, served = crowded.snapshot(*CONFIGURATIONS), view.leaf_at(crowded, 993)
    result = crowded.certbot(*INSTALL, check=False)
    assert result.code == 1
    assert f"Dovecot's config process may use 100 MB, which is little for {COUNT} names" in result.stderr
    assert "set vsz_limit = 384 M in a block service config, and restart Dovecot" in result.stderr
    assert crowded.snapshot(*CONFIGURATIONS) == before
    assert served == view.leaf_in("/etc/dovecot/private/dovecot.pem")


def test_with_the_limit_that_is_named_it_works(crowded):
    crowded.append("/etc/dovecot/local.conf", "service config {\n  vsz_limit = 384 M\n}\n")
    crowded.restart("dovecot")
    crowded.certbot(*INSTALL)
    assert view.leaf_at(crowded, 993) == view.live_leaf(NAME)
    assert crowded.served(993, sni="n7.test").digest == view.leaf_in("/etc/dovecot/private/dovecot.pem")
