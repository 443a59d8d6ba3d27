"""DANE: what belongs into the DNS.

:mod:`~certbot_dovecot.dane.tlsa` makes TLSA records of keys that are served, as zone-file lines and as JSON.
"""
