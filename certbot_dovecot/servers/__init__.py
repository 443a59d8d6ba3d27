"""The mail servers: what they serve, where, and how to change it.

One contract, :class:`~certbot_dovecot.servers.contract.IMailServer`, with two keepers:
:mod:`~certbot_dovecot.servers.dovecot` (configuration language in :mod:`~certbot_dovecot.servers.dovecot_conf`) and
:mod:`~certbot_dovecot.servers.postfix` (``master.cf`` in :mod:`~certbot_dovecot.servers.master_cf`).
:mod:`~certbot_dovecot.servers.probe` asks an endpoint over TLS which certificate it serves.
"""
