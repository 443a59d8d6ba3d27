"""Sphinx configuration; 5.3 (Debian 12) and later, with nothing but what comes with it."""

import pathlib
import re

project = "certbot-dovecot"
copyright = "The certbot-dovecot developers"
#: Read, not imported: the documentation can be built without certbot.
release = re.findall(
    r'(?m)^__version__ = "(.+)"$', (pathlib.Path(__file__).parents[1] / "certbot_dovecot" / "__init__.py").read_text()
)[0]
version = release
extensions: list[str] = []
html_theme = "alabaster"
html_theme_options = {"description": "certbot installer for Dovecot and Postfix", "page_width": "1100px"}
nitpicky = True
#: Quotes and dashes in a command stay what is typed.
smartquotes = False
highlight_language = "none"
#: Parts of other pages.
exclude_patterns = ["_build", "exit-codes-list.rst", "options-list.rst", "rehearsal.rst"]
#: (source, name, description, authors, section)
man_pages = [
    ("certbot-dovecot.1", "certbot-dovecot", "status, checks and deploy hooks of certbot's mail server installer", "", 1),
    ("certbot-dovecot.7", "certbot-dovecot", "certbot installer plugin for Dovecot and Postfix", "", 7),
]
