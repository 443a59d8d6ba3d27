"""Fedora's package, as far as the rpm tools of Debian reach: the spec is parsed, linted, and built.

Fedora's own macros (pyproject-rpm-macros) are not in Debian.  :data:`MACROS` stands in for those that the spec uses, so that
every line of it is run: %prep, %build, %install, %check, the list of files.  What stays unproven: that Fedora's packages
satisfy the build requirements, which its macros generate, where its Python has its modules, and its own policies.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from tests.packages import debian, dist, source, tree

MACROS = """\
%python3 /usr/bin/python3
%pyproject_files %{_builddir}/pyproject-files
%pyproject_buildrequires true
%pyproject_wheel sh /out/stand-in wheel
%pyproject_install sh /out/stand-in install
%pyproject_save_files(l) sh /out/stand-in save %{pyproject_files}
%pyproject_check_import sh /out/stand-in import
%pytest sh /out/stand-in pytest
"""
STAND_IN = """\
# What each macro does, in short; rpm sets RPM_BUILD_ROOT.
set -eu
what=$1; shift
modules=$RPM_BUILD_ROOT/usr/lib/python3/site-packages
case $what in
    wheel) python3 -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir pyproject-wheeldir . ;;
    install)
        python3 -m pip install --no-index --no-deps --no-compile --target "$modules" pyproject-wheeldir/*.whl
        for part in bin share; do
            cp -r "$modules/$part" "$RPM_BUILD_ROOT/usr"
            rm -r "${modules:?}/$part"
        done ;;
    save) printf '%s\\n' /usr/lib/python3/site-packages/certbot_dovecot /usr/lib/python3/site-packages/*.dist-info >"$1" ;;
    import) cd / && PYTHONPATH=$modules python3 -B -c 'import certbot_dovecot.installer, certbot_dovecot.cli' ;;
    pytest) PYTHONPATH=$modules exec python3 -B -m pytest "$@" ;;
esac
"""
#: Debian's rpmlint has no distribution's settings; these complaints are ones that Fedora's have switched off too (a build
#: system signs, and sets packager and build root); of the address of a project that has no web page yet; and of what Debian's
#: rpm does otherwise: it generates no requirements of Python modules, and packs pages with gzip as Fedora does.
LINT = """\
Filters = [
    "no-signature", "no-packager-tag", "no-group-tag", "no-buildroot-tag", "no-url-tag", "invalid-url Source0",
    "python-missing-require", "no-dependency-on python-base", "manpage-not-compressed bz2",
]
ValidLicenses = ["Apache-2.0"]
"""
_TRY = """
top=$HOME/rpmbuild
mkdir -p "$top/SOURCES" /etc/rpm
cp /out/*.tar.gz "$top/SOURCES"
cp /out/macros /etc/rpm/macros.stand-in
cp /out/certbot-dovecot.spec "$HOME"
cd
rpm --version
rpmspec --parse certbot-dovecot.spec
rpmbuild -bs certbot-dovecot.spec
rpmlint --version
rpmlint --strict --config /out/rpmlint.toml certbot-dovecot.spec "$top"/SRPMS/*.src.rpm
rpmbuild -bb --nodeps certbot-dovecot.spec
rpm -qpi --requires --provides --scripts -l "$top"/RPMS/noarch/*.rpm
rpmlint --strict --config /out/rpmlint.toml "$top"/RPMS/noarch/*.rpm
cp "$top"/SRPMS/*.src.rpm "$top"/RPMS/noarch/*.rpm /out
"""


def make(_name: str, out: Path, log: IO[str]) -> str:
    """Parse, lint and build; the packages are in ``out`` afterwards.

    :returns: a line of what came out.
    :raises Failed: with what failed; the log has the rest.
    """
    out.mkdir(parents=True)
    source.export(out / "source")
    (out / "macros").write_text(MACROS)
    (out / "rpmlint.toml").write_text(LINT)
    (out / "stand-in").write_text(STAND_IN)
    spec = source.CHECKOUT / source.PACKAGING / "certbot-dovecot.spec"
    (out / spec.name).write_bytes(spec.read_bytes())
    building = tree.build_tree(dist.MAKER)
    epoch = str(debian.epoch(source.CHECKOUT / source.PACKAGING / "debian" / "changelog"))
    tree.run(building, out, log, "fedora: the source", f"{dist._MAKE}\ncp /out/one/*.tar.gz /out", "one", "022", epoch)
    tree.run(building, out, log, "fedora: rpmspec, rpmbuild, rpmlint", _TRY)
    return ", ".join(f"{rpm.name} {rpm.stat().st_size / 1024:.0f} KiB" for rpm in sorted(out.glob("*.rpm")))
