"""A commercial certificate that brings another key, on a host whose present key has TLSA records in the DNS."""

from __future__ import annotations

from tests.integration import view
from tests.integration.test_commercial import AUTHORITY, HOME, TREES, csr, digest, everywhere, install, mailed
from tests.lab import names as name_servers


def test_d30_a_key_whose_records_are_in_the_dns_waits_for_those_of_the_next(mailhost):
    name, host = "mail.secure.test", "mail.secure.test-external"

    def made(stem):
        return AUTHORITY.answer(view.read(f"{HOME}/{host}/{stem}.csr"))

    csr(mailhost, name)
    first = made("2026")
    with name_servers.run("knot") as servers:
        install(mailhost, *mailed(first), "--resolver", name_servers.CACHE)
        csr(mailhost, name, "--new-key")
        second = made("2026-2")
        options, keys = mailed(second), [f"3 1 1 {view.bundles.spki_of(one.cert)}" for one in (first, second)]
        owner = f"_993._tcp.{name}."
        servers.replace("secure.test", {"_dane": [], "_993._tcp.mail": keys[:1]})
        servers.catch_up()
        before, served = mailhost.snapshot(*TREES), view.leaves(mailhost)
        result = install(mailhost, *options, check=False)
        assert result.code == 3
        assert f"{owner} has a TLSA record of the key that is served now" in result.stderr
        assert "Nothing was changed." in result.stderr
        # No line for the ports that have no records.
        lines = [line for line in result.stdout.splitlines() if " IN TLSA " in line]
        assert lines == [f"{owner} {name_servers.TTL} IN TLSA {keys[1]}"]
        assert mailhost.snapshot(*TREES) == before
        assert view.leaves(mailhost) == served
        servers.replace("secure.test", {"_993._tcp.mail": keys})
        servers.catch_up()
        servers.flush()
        assert "it is not known since when" in install(mailhost, *options, check=False).stderr
        result = install(mailhost, *options, "--force")
        assert "The key changes, as you say" in result.stdout
        assert everywhere(mailhost) == digest(second)
        # Back to the other one, against all advice.
        servers.replace("secure.test", {"_993._tcp.mail": keys[1:]})
        servers.catch_up()
        servers.flush()
        assert install(mailhost, *mailed(first), check=False).code == 3
        install(mailhost, *mailed(first), "--now")
        assert everywhere(mailhost) == digest(first)
