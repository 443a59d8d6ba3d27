"""Sphinx configuration."""

project = "certbot-dovecot"
copyright = "The certbot-dovecot developers"
extensions: list[str] = []
html_theme = "alabaster"
nitpicky = True
#: A part of another page.
exclude_patterns = ["rehearsal.rst"]
#: (source, name, description, authors, section)
man_pages = [
    ("certbot-dovecot.1", "certbot-dovecot", "status, checks and deploy hooks of certbot's mail server installer", "", 1),
    ("certbot-dovecot.7", "certbot-dovecot", "certbot installer plugin for Dovecot and Postfix", "", 7),
]
