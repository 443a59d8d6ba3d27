"""What certbot calls.  It translates, and holds no logic.

certbot's life cycle (facts measured on 2.1 and 5.8) and what we make of it:

==================  ===================================================================================
``prepare``         decide about the annual key; under ``run`` and ``install``, look whether all can work
``deploy_cert``     collect, once per name
``save(title)``     write, once, whatever the number of names (:func:`certbot_dovecot.reconcile.begin`)
``restart``         reload and prove (:meth:`certbot_dovecot.reconcile.Deployment.prove`)
``renew_deploy``    write, for a lineage that is installed; certbot calls ``restart`` next
``generic_updates`` at every ``certbot renew``, due or not: finish what an earlier run could not
``restart`` alone   a renewal with ``--disable-renew-updates``: do both there, for there is no other call
==================  ===================================================================================

Failures are certbot's ``PluginError`` with the problem's sentences.  Under ``renew`` and ``certonly`` ``prepare`` never raises
one: certbot would drop the installer from the renewal conf, in silence, and exit 0.  The problem is kept, and raised from
``renew_deploy`` or ``restart``, when the new certificate is saved.

certbot imports this module for every command it runs, so nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from certbot import errors, interfaces
from certbot.display import util as display_util
from certbot.plugins import common

from certbot_dovecot.problems import KeyHeld, Problem

if TYPE_CHECKING:
    from certbot_dovecot.bundle import Source
    from certbot_dovecot.deploy.rollback import Rollback
    from certbot_dovecot.door import Door, Start
    from certbot_dovecot.handover import Told
    from certbot_dovecot.reconcile import Deployment, Report

logger = logging.getLogger(__name__)

#: Under these, a PluginError from prepare() stops certbot before it issues anything, which is what we want.
_MAY_RAISE = ("run", "install")


class Installer(common.Installer):
    """Dovecot and Postfix submission: install, reload, prove on the wire."""

    description = "Dovecot and Postfix submission: install, reload, prove on the wire"

    @classmethod
    def add_parser_arguments(cls, add: Callable[..., None]) -> None:
        """Declare the ``--dovecot-*`` options."""
        add(
            "server-root",
            metavar="DIR",
            default="/etc/dovecot",
            help="Dovecot's configuration directory (default: /etc/dovecot)",
        )
        add(
            "postfix-root",
            metavar="DIR",
            default="",
            help="Postfix's configuration directory (default: what postconf says)",
        )
        add(
            "postfix-services",
            metavar="SERVICES",
            default="submission",
            help="Which services of master.cf get the certificate: 'submission' (port 465, port 587, or wrappermode), 'all' "
            "(port 25 too, where other hosts bring mail in), 'none', or a comma list of service names (default: submission)",
        )
        add("store", metavar="DIR", default="", help="Where keys and certificates are kept (default: CONFIG_DIR/dovecot)")
        add(
            "key-rotation",
            metavar="WHEN",
            default="annual",
            choices=("annual", "never"),
            help="When a renewal takes a new key: 'annual', at the first renewal of a year, or 'never' (default: annual)",
        )
        add(
            "probe-timeout",
            metavar="SECONDS",
            type=float,
            default=10.0,
            help="How long every endpoint is asked until it serves the new certificate (default: 10)",
        )

        add(
            "standby-for",
            metavar="NAME",
            default="",
            help="This lineage (--cert-name) stands by for the lineage NAME: same names, a key of its own, renewed and "
            "published, and not installed until the servers change to it",
        )
        add(
            "dane",
            metavar="WHEN",
            default="auto",
            choices=("auto", "off"),
            help="'auto': a key whose TLSA records are published is replaced only by one whose record is proven to be "
            "everywhere; 'off': the DNS does not matter (default: auto)",
        )
        add(
            "force",
            action="store_true",
            help="Change the key that is served even if TLSA records of it are published and none of the new one is proven: "
            "senders that check them may defer their mail",
        )
        add(
            "resolver",
            metavar="ADDRESS",
            default="",
            help="A validating resolver whose word is believed, ADDRESS[:PORT] (default: the system's, if it is on loopback)",
        )
        add(
            "dane-floor",
            metavar="HOURS",
            type=float,
            default=48.0,
            help="How long the next key's record must stand everywhere at least before the servers change to it (default: 48)",
        )
        add(
            "dane-hosts",
            metavar="HOSTS",
            default="",
            help="Host names beyond those of the certificate under which others reach this host, a comma list: TLSA records "
            "there count, too. Postfix's myhostname, this host's own name and its MX hosts are found without it",
        )
        add(
            "publish-rfc2136",
            metavar="FILE",
            default="",
            help="Publish TLSA records by dynamic update, with the credentials in FILE (the INI file of certbot-dns-rfc2136)",
        )
        add(
            "publish-command",
            metavar="COMMAND",
            default="",
            help="Publish TLSA records by this program, which gets the changes as JSON on its standard input",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sources: dict[Source, list[str]] = {}
        self._deployment: Optional[Deployment] = None
        self._problem: Optional[Problem] = None
        self._start: Optional[Start] = None
        self._went_back = False
        self._rolled_back: Optional[Rollback] = None

    def prepare(self) -> None:
        """Look at the host and decide about the key.

        :raises NoInstallationError: there is no Dovecot here.
        :raises MisconfigurationError: its configuration is broken.
        """
        try:
            from certbot_dovecot import door_key

            self._start = door_key.choose(self._door())
            self._door().prepare()
        except Problem as problem:
            if self.config.verb in _MAY_RAISE:
                raise errors.MisconfigurationError(str(problem)) from problem
            self._problem = problem
            logger.debug("prepare: %s", problem)
            if self.config.verb in ("plugins", "enhance"):
                raise errors.NoInstallationError(str(problem)) from problem

    def __str__(self) -> str:
        # ``certbot plugins --prepare`` shows this line; anywhere else it is for a debug log, and must cost nothing.
        return self.more_info() if self.config.verb == "plugins" else super().__str__()

    def more_info(self) -> str:
        """What was found on this host."""
        from certbot_dovecot.certificates.names import shown_lines

        return shown_lines(self._door().describe())

    def get_all_names(self) -> Iterable[str]:
        """Fully qualified names that certbot offers when none is given."""
        with _translated():
            return self._door().names()

    def deploy_cert(
        self, domain: str, cert_path: str, key_path: str, chain_path: Optional[str] = None, fullchain_path: Optional[str] = None
    ) -> None:
        """Collect one name; :meth:`save` does the work."""
        from certbot_dovecot.bundle import Source

        self._sources.setdefault(Source(key_path, cert_path, chain_path, fullchain_path), []).append(str(domain))

    def enhance(self, domain: str, enhancement: str, options: Optional[Union[list[str], str]] = None) -> None:
        """There are no enhancements.

        :raises PluginError: always.
        """
        raise errors.NotSupportedError(f"{enhancement} is not an enhancement of a mail server")

    def supported_enhancements(self) -> list[str]:
        """None; so certbot itself refuses must-staple requests, which neither server can honour."""
        return []

    def save(self, title: Optional[str] = None, temporary: bool = False) -> None:
        """Write what was collected, at the save that has a title.

        :raises PluginError: nothing was changed, or everything was put back; or, where something was down before, what is
            left to prove.
        """
        if title is None or not self._sources:
            return
        sources, self._sources = self._sources, {}
        with _translated():
            for source, domains in sources.items():
                door = self._door()
                told = door.register(door.name_of(source))
                if told is not None:
                    self._tell(told)
                    continue
                self._deployment = door.install(source, domains)
                if self._deployment and self._deployment.plan.degraded:
                    # What was broken before may stay unproven, and that must not make certbot roll back what was written:
                    # so it is told here, where certbot keeps it.
                    self._prove()

    def restart(self) -> None:
        """Reload what was written and prove it; nothing if nothing was.

        :raises PluginError: with what failed, and what was restored.
        """
        with _translated():
            if self._rolled_back is not None:
                rollback, self._rolled_back = self._rolled_back, None
                rollback.follow()
            elif self._problem:
                raise self._problem
            elif self._deployment:
                self._prove()
            elif self.config.verb == "certonly":
                told = self._door().register(self.config.certname)
                if told is not None:
                    self._tell(told)
                    return
                self._deployment = self._door().issued(self.config.certname, _names(self.config))
                self._prove()
            elif self.config.verb == "renew" and self.config.disable_renew_updates:
                self._finish_renewal()

    def renew_deploy(self, lineage: interfaces.RenewableCert, *args: Any, **kwargs: Any) -> None:
        """Write a renewed lineage to the servers that it is installed on; :meth:`restart` proves it.

        :raises PluginError: nothing was changed, or everything was put back.
        """
        with _translated():
            if self._problem:
                raise self._problem
            self._deployment = self._door().renewed(lineage.lineagename)

    def generic_updates(self, lineage: interfaces.RenewableCert, *args: Any, **kwargs: Any) -> None:
        """Finish what an earlier run could not; certbot calls this on an instance that is not prepared.

        :raises PluginError: what is still not true.
        """
        from certbot_dovecot import glance

        with _translated():
            home = self._home()
            held: Optional[KeyHeld] = None
            if not glance.settled(home, lineage.lineagename):
                try:
                    self._deployment = self._door().renewed(lineage.lineagename)
                except KeyHeld as problem:
                    # What proves the new key is looked at all the same, and it may not be this key that comes next.
                    held = problem
                self._prove()
            if held or not glance.tended(home, lineage.lineagename, datetime.datetime.now(datetime.timezone.utc)):
                told = self._door().tend(lineage.lineagename)
                self._tell(told)
                held = None if told.switched else held
            if glance.gone(self.config.config_dir, home):
                self._tell_orphans()
            if held:
                raise held

    def rollback_checkpoints(self, rollback: int = 1) -> None:
        """Bring back configuration files; :meth:`restart` makes the servers follow.

        certbot calls this too when :meth:`restart` failed, and then everything has been put back already.

        :raises PluginError: a file cannot be restored.
        """
        if self._went_back:
            self._went_back = False
            return
        with _translated():
            self._rolled_back = self._door().roll_back(
                lambda: super(Installer, self).rollback_checkpoints(rollback), rollback
            )

    def recovery_routine(self) -> None:
        """Put back what was written and not proven.

        :raises PluginError: a file cannot be restored.
        """
        with _translated():
            if self._deployment:
                deployment, self._deployment = self._deployment, None
                deployment.abandon()
            self._door().recover()

    def config_test(self) -> None:
        """Let the servers check their configuration.

        :raises MisconfigurationError: one refuses.
        """
        try:
            for server in self._door().found().servers:
                server.check()
        except Problem as problem:
            raise errors.MisconfigurationError(str(problem)) from problem

    def _door(self) -> Door:
        from certbot_dovecot.door import Door, Start

        return Door(self, self._start or Start())

    def _prove(self) -> None:
        from certbot_dovecot import summary

        deployment, self._deployment = self._deployment, None
        if deployment is None:
            return
        try:
            report = deployment.prove()
        finally:
            # Also after an interrupt: certbot then calls rollback_checkpoints, and our checkpoint is not there any more.
            self._went_back = deployment.went_back
        lines = summary.text(report) if report.changed or deployment.plan.job.explicit else ""
        if lines:
            _notify(lines)
        self._warn(report, deployment.plan.job.lineage)
        self._tell_orphans()

    def _finish_renewal(self) -> None:
        """Do what ``renew_deploy`` and ``generic_updates`` do, which ``--disable-renew-updates`` leaves out of a renewal."""
        from certbot_dovecot import glance

        certname, names = self.config.certname, _names(self.config)
        self._deployment = self._door().issued(certname, names)
        self._prove()
        for name in self._door().meant(certname, names):
            if not glance.tended(self._home(), name, datetime.datetime.now(datetime.timezone.utc)):
                self._tell(self._door().tend(name))

    def _home(self) -> str:
        return os.path.join(self.config.config_dir, "dovecot")

    def _warn(self, report: Report, lineage: str) -> None:
        """What an admin must know, also when ``-q`` hides everything but errors."""
        from certbot_dovecot import summary

        if report.withdrawn:
            _complain(summary.withdrawn(lineage, report.withdrawn))
        if report.new_key and report.records and self.config.quiet:
            _complain(f"{lineage}: {summary.new_key(report)}")

    def _tell(self, told: Told) -> None:
        """What came of a look at the DNS; the warnings also when ``-q`` hides everything but errors."""
        if told.notes:
            _notify("\n".join(told.notes))
        for warning in told.warnings:
            _complain(warning)

    def _tell_orphans(self) -> None:
        for sentence in self._door().orphans():
            _complain(sentence)


interfaces.GenericUpdater.register(Installer)
interfaces.RenewDeployer.register(Installer)


def _notify(text: str) -> None:
    """Say it the way certbot does, which ``-q`` hides; control characters in it are escaped."""
    from certbot_dovecot.certificates.names import shown_lines

    display_util.notify(shown_lines(text))


def _complain(text: str) -> None:
    """Say it on stderr, also under ``-q``, likewise."""
    from certbot_dovecot.certificates.names import shown_lines

    print(shown_lines(text), file=sys.stderr)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Problems become certbot's errors: one clear sentence, exit 1, no traceback."""
    try:
        yield
    except Problem as problem:
        raise errors.PluginError(str(problem)) from problem


def _names(config: Any) -> list[str]:
    """The names on the command line; certbot 5.3 made objects of them, and keeps addresses apart."""
    return [str(name) for name in [*config.domains, *getattr(config, "ip_addresses", ())]]
