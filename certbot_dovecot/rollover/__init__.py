"""The closed loop of the yearly key: which owner names are looked at, and what is served behind them.

It may import the servers, the store and :mod:`certbot_dovecot.dane`.  It decides nothing: the rules are
:mod:`certbot_dovecot.dane.rollover` and :mod:`certbot_dovecot.dane.gates`.
"""
