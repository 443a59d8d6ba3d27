"""The rehearsal: years of renewals with DANE, played on real servers, with a judge that looks at every moment.

=============  =====================================================================================
world          a mail host, a CA, a signed zone on two name servers, caches, and one calendar
border         where the calendar and the machine's clock meet: dynamic updates
judge          could a sender deliver, now?
strategies     how keys are rolled: as others do, and as we do
scenarios      what is played, and what must come of it
=============  =====================================================================================

``python -m tests.rehearsal``, as root, plays all; ``--short`` two of them, in less than 90 seconds; names of scenarios, just
these.
"""
