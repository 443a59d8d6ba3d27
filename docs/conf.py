"""Sphinx configuration."""

project = "certbot-dovecot"
copyright = "The certbot-dovecot developers"  # noqa: A001
extensions: list[str] = []
html_theme = "alabaster"
nitpicky = True
