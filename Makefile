# From a bare Debian machine, as root:
#
#   make test    set everything up, run the tests, lint and type checks: newest certbot, Debian 12 and 13
#   make test-all  the same, the tests that take long, more of them on Debian 12, 13 and sid, and certbot 2.1, 2.11 and 3.3
#   make bench   measure what the plugin costs
#   make demo    set everything up, show what the plugin does on a real mail host in a private namespace
#   make rehearsal  play years of renewals with DANE on real servers, print what a sender would have seen
#   make docs    build the documentation and the man pages into docs/_build
#   make unit    only the tests that need no daemon and no root
#   make lint    only style and types
#   make packages  build each package, install it, do the main job with it: Debian 12 and 13, sdist, wheel, Fedora's spec
#   make dist    sdist and wheel, in dist/
#   make man     the manual pages, in man/
#   make lab     install what the lab needs from the distribution, as root; most of the others do it
#   make clean   remove what was built here; packages stay installed

PYTHON ?= python3
TOX = .venv/bin/tox

.PHONY: test test-all demo rehearsal bench docs unit lint lab packages dist man clean

test: lab $(TOX)
	$(TOX) run

test-all: lab $(TOX)
	$(TOX) run
	$(TOX) run -e long,remedies,bookworm-all,trixie-all,sid-all,certbot21,certbot211,certbot33

bench: lab $(TOX)
	@$(TOX) run -q -e bench

demo: lab $(TOX)
	@$(TOX) run -q -e demo

rehearsal: lab $(TOX)
	@$(TOX) run -q -e rehearsal

docs unit lint: $(TOX)
	$(TOX) run -e $@

# What the lab needs from the distribution; nothing is started by its installation.
lab:
	@$(PYTHON) -m tests.lab.packages --install

packages:
	@$(PYTHON) -m tests.packages

dist: $(TOX)
	@$(TOX) run -q -e dist

man: $(TOX)
	@$(TOX) run -q -e man

$(TOX):
	@$(PYTHON) -c 'import ensurepip' || { echo 'The package python3-venv is missing: run "make lab" as root.' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet 'tox>=4'

clean:
	rm -rf .venv .tox build dist man *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
