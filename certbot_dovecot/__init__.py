"""Certbot installer for mail servers: Dovecot, and Postfix's submission services.

The way through the house, four floors, imports only downwards:

========  ==================================================================
doors     ``installer`` (what certbot calls), ``cli`` (``certbot-dovecot``)
deeds     ``reconcile`` (the one way in which a lineage reaches the servers)
means     ``transaction``, ``store``, ``state``, ``rotation``
ground    ``servers`` (Dovecot, Postfix, the probe), ``dane`` (TLSA records),
          ``bundle``, ``files``, ``commands``, ``problems``
========  ==================================================================
"""

__version__ = "0.1.0"
