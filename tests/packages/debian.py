"""The Debian package of one suite: built twice, looked through by lintian, installed, tried, purged."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import IO

from tests.packages import source, tree

SUITES = ("bookworm", "trixie")
#: Of the package's own test (debian/tests), what tells that the installed package does its main job; the rest is the same
#: everywhere, and tested from the checkout.
MAIN_JOB = (
    "test_install.py::test_one_command_and_every_port_serves_the_new_certificate",
    "test_install.py::test_tlsa_data_of_what_is_served_and_never_of_port_25",
    "test_renew.py::test_a_renewal_keeps_the_key_and_touches_one_file",
    "test_renew.py::test_nothing_due_does_nothing_and_asks_no_server",
    "test_renew.py::test_the_new_year_takes_a_new_key_in_files_of_its_own",
    "test_renew.py::test_rollback_gives_the_original_bytes_back_and_the_servers_serve_them",
    "test_renew.py::test_the_deploy_hook_sees_the_new_key_as_next",
)

#: As an ordinary user, in two places, with another umask, language and time zone, once with the unit tests and once without.
_BUILD = """
useradd --create-home builder
unpack() {
    mkdir -p "$1"
    cp /out/*.orig.tar.xz "$1"
    tar -C "$1" -xJf /out/*.orig.tar.xz
    cp -r /out/debian "$1"/python-certbot-dovecot-*/
    chown -R builder "$1"
}
unpack /home/builder/one
cd /home/builder/one/python-certbot-dovecot-*
runuser -u builder -- dpkg-buildpackage -us -uc
echo '== built once; does it clean up, and is the source as it was'
runuser -u builder -- dpkg-buildpackage -us -uc -S -d
elsewhere=$(mktemp -d)/place
chmod 755 "${elsewhere%/place}"
unpack "$elsewhere"
cd "$elsewhere"/python-certbot-dovecot-*
echo '== built again, elsewhere'
umask 0002
runuser -u builder -- env DEB_BUILD_OPTIONS=nocheck TZ=Pacific/Kiritimati LC_ALL=C dpkg-buildpackage -us -uc -b
for deb in /home/builder/one/*.deb; do
    cmp "$deb" "$elsewhere/${deb##*/}"
    echo "the same bytes twice: ${deb##*/}, $(stat -c %s "$deb") bytes"
done
cd /home/builder/one
rm ./*_source.*
cp ./*.deb ./*.dsc ./*.debian.tar.xz ./*.buildinfo ./*.changes /out
"""
_LINTIAN = """
useradd --create-home builder
lintian --version
runuser -u builder -- lintian --info --display-info --pedantic --fail-on error,warning /out/*.changes
echo 'lintian: no error, no warning'
"""
_DOCS = """
dpkg --install /out/python-certbot-dovecot-doc_*.deb
test -s /usr/share/doc/python3-certbot-dovecot/html/index.html
find -L /usr/share/doc/python3-certbot-dovecot /usr/share/doc/python-certbot-dovecot-doc -type l | { ! grep .; }
dpkg --purge python-certbot-dovecot-doc
dpkg --unpack /out/python3-certbot-dovecot_*.deb
for page in 1 7; do
    page=/usr/share/man/man$page/certbot-dovecot.$page.gz
    MANWIDTH=80 man --warnings --encoding=UTF-8 --local-file -Tutf8 --ditroff "$page" 2>&1 >/dev/null | { ! grep .; }
done
bash -n /usr/share/bash-completion/completions/certbot-dovecot
zsh -n /usr/share/zsh/vendor-completions/_certbot-dovecot
"""
_INSTALL = """
dpkg --install /out/python3-certbot-dovecot_*.deb
dpkg --verify python3-certbot-dovecot
certbot plugins --installers | grep '^\\* dovecot$'
certbot-dovecot --version
certbot-dovecot --help >/dev/null
place=$(mktemp -d)
chmod 755 "$place"
cp -r /out/source "$place/source"
cp -r /out/debian "$place/source/debian"
cd "$place/source"
debian/tests/main-job --durations=5 "$@"
"""
_PURGE = """
dpkg --install /out/python3-certbot-dovecot_*.deb
place=$(mktemp -d)
chmod 755 "$place"
cp -r /out/source/tests /out/source/setup.cfg "$place"
cd "$place"
export PYTHONDONTWRITEBYTECODE=1 REQUIRE_LAB=1
exec python3 -m pytest -p no:cacheprovider --timeout=300 tests/packages/removal.py
"""


def make(suite: str, out: Path, log: IO[str]) -> str:
    """Build and try; the packages are in ``out`` afterwards.

    :returns: a line of what came out.
    :raises Failed: with what failed; the log has the rest.
    """
    out.mkdir(parents=True)
    packaging = source.CHECKOUT / source.PACKAGING / "debian"
    source.orig(out, epoch(packaging / "changelog"))
    source.export(out / "source")
    shutil.move(str(out / "source" / source.PACKAGING / "debian"), out / "debian")
    building, testing = tree.build_tree(suite), tree.test_tree(suite)
    tree.run(building, out, log, f"{suite}: built twice, the same bytes", _BUILD)
    tree.run(building, out, log, f"{suite}: lintian", _LINTIAN)
    tree.run(building, out, log, f"{suite}: documentation, man pages and completions", _DOCS)
    main_job = [f"tests/integration/{test}" for test in MAIN_JOB]
    tree.run(testing, out, log, f"{suite}: installed, and the main job", _INSTALL, *main_job)
    tree.run(testing, out, log, f"{suite}: purged", _PURGE)
    for name in ("source", "debian"):
        shutil.rmtree(out / name)
    return ", ".join(f"{deb.name} {deb.stat().st_size / 1024:.0f} KiB" for deb in sorted(out.glob("*.deb")))


def epoch(changelog: Path) -> int:
    """The time of the newest entry of a Debian changelog."""
    from email.utils import parsedate_to_datetime

    found = re.search(r"(?m)^ -- .*?>  (.+)$", changelog.read_text())
    assert found
    return int(parsedate_to_datetime(found.group(1)).timestamp())
