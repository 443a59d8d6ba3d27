"""What a look at the DNS costs when it is not time for one: ``python -m benchmarks.tended``.

A lineage with a standby, a record of twelve switches and two hundred published records, as ``certbot renew`` meets it.  Prints
milliseconds: the median of 200 calls, and what the imports take.
"""

from __future__ import annotations

import datetime
import statistics
import tempfile
import time

from certbot_dovecot import files, state, store
from certbot_dovecot.state import State


def main() -> None:
    """Measure and print."""
    now = datetime.datetime.now(datetime.timezone.utc)
    begin = time.perf_counter()
    from certbot_dovecot import glance

    imported = time.perf_counter() - begin
    from certbot_dovecot import ledger
    from certbot_dovecot.dane.answers import Data
    from certbot_dovecot.dane.rollover import Evidence
    from certbot_dovecot.ledger import Ledger, Turn

    with tempfile.TemporaryDirectory() as home:
        first, other = store.folder(home, "", "mail.example.org"), store.folder(home, "", "mail.example.org-standby")
        for place in (first, other):
            files.make_directory(place.path)
            files.write(place.state, state.dump(State(servers=("Dovecot", "Postfix"))))
        owners = [f"_{port}._tcp.host{number}.example.org." for number in range(25) for port in (25, 143, 465, 587)]
        made = Ledger(
            standby="mail.example.org-standby",
            turns=tuple(Turn(now, "mail.example.org", "A" * 64, "due") for _ in range(12)),
            asked=now,
            signature=files.sign([first.state, other.state]),
            evidence=Evidence("A" * 64, "B" * 64, frozenset(owners), now, 3600),
            ours=frozenset((owner, Data(3, 1, 1, digest * 64)) for owner in owners for digest in "AB"),
        )
        ledger.save(first, made)
        ledger.save(other, Ledger(first="mail.example.org"))
        times = []
        for _ in range(200):
            begin = time.perf_counter()
            if not glance.tended(home, "mail.example.org-standby", now):
                raise SystemExit("there is something to do, so this measures nothing")
            times.append(time.perf_counter() - begin)
    print(f"a lineage: {1000 * statistics.median(times):.2f} ms; imports, once a run: {1000 * imported:.1f} ms")


if __name__ == "__main__":
    main()
