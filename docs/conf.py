"""Sphinx configuration."""

project = "certbot-dovecot"
copyright = "The certbot-dovecot developers"
extensions: list[str] = []
html_theme = "alabaster"
nitpicky = True
#: A part of another page.
exclude_patterns = ["rehearsal.rst"]
