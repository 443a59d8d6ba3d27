"""The one way in which a certificate reaches the servers, and the way back.

A change of the servers' files is not done when the files are written: the servers must run with them, and serve what they
name.  Until that was seen, the change can be taken back (:mod:`~certbot_dovecot.deploy.verify`).
"""
