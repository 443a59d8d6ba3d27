"""Configurations in the shapes of well-known suites, written from their documentation.  Pure.

Only the shape is theirs: where the settings stand, what is included where, which services master.cf has and how they are spelt,
and what main.cf sets that may win.  Every one runs on Dovecot 2.3 and 2.4, and names the pair of the lab's CA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """What the versions spell differently.

    :param new: true for Dovecot 2.4.
    """

    new: bool

    def tls(self, cert: str, key: str, indent: str = "") -> str:
        """The two lines that make Dovecot serve a pair."""
        if self.new:
            return f"{indent}ssl_server_cert_file = {cert}\n{indent}ssl_server_key_file = {key}\n"
        return f"{indent}ssl_cert = <{cert}\n{indent}ssl_key = <{key}\n"

    @property
    def head(self) -> str:
        """What a main file begins with."""
        return "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n" if self.new else ""

    @property
    def users(self) -> str:
        """Where users come from."""
        if self.new:
            return "passdb static {\n  password = test\n}\nuserdb passwd {\n}\n"
        return "passdb {\n  driver = static\n  args = password=test\n}\nuserdb {\n  driver = passwd\n}\n"


@dataclass(frozen=True)
class Layout:
    """One suite's shape.

    :param dovecot: makes (file in ``/etc/dovecot``, text), the main file first.
    :param services: the submission services of master.cf.
    :param main: lines for main.cf.
    :param cert: where the suite keeps its certificate.
    :param key: and its key.
    :param ports: the ports of Postfix's submission services: number, and whether TLS starts at the first byte.
    :param changed: files that an install may change.
    """

    dovecot: Callable[[Words, str, str], Sequence[tuple[str, str]]]
    services: str
    cert: str
    key: str
    changed: frozenset[str]
    main: str = ""
    ports: tuple[tuple[int, bool], ...] = ((465, True), (587, False))


_LOG = "log_path = /var/log/dovecot.log\n"
_MAIN, _MASTER = "/etc/dovecot/dovecot.conf", "/etc/postfix/master.cf"
_SUBMISSION = "submission inet n - n - - smtpd\n  -o syslog_name=postfix/submission\n  -o smtpd_tls_security_level=encrypt\n"
_SMTPS = "inet n - n - - smtpd\n  -o syslog_name=postfix/smtps\n  -o smtpd_tls_wrappermode=yes\n"


def _fedora(words: Words, cert: str, key: str) -> Sequence[tuple[str, str]]:
    return (
        ("dovecot.conf", f"{words.head}protocols = imap pop3 sieve\n{_LOG}!include conf.d/*.conf\n!include_try local.conf\n"),
        ("conf.d/10-auth.conf", f"{words.users}"),
        ("conf.d/10-ssl.conf", f"##\n## SSL settings\n##\n\nssl = required\n\n# Preferred permissions: root:root 0444\n"
         f"{words.tls(cert, key)}\n#ssl_client_ca_file =\n"),
        ("conf.d/20-imap.conf", "protocol imap {\n  # Space separated list of plugins to load.\n}\n"),
    )  # fmt: skip


def _upstream(words: Words, _cert: str, _key: str) -> Sequence[tuple[str, str]]:
    example = words.tls("/etc/ssl/certs/dovecot.pem", "/etc/ssl/private/dovecot.pem")
    commented = "".join(f"#{line}\n" for line in example.splitlines())
    return (
        ("dovecot.conf", f"{words.head}#protocols = imap pop3 lmtp\nprotocols = imap pop3 sieve\n{_LOG}"
         "!include conf.d/*.conf\n"),
        ("conf.d/10-auth.conf", words.users),
        ("conf.d/10-ssl.conf", f"# SSL/TLS support: yes, no, required.\n#ssl = yes\n\n# PEM encoded certificate\n{commented}"),
    )  # fmt: skip


def _one_file(words: Words, cert: str, key: str) -> Sequence[tuple[str, str]]:
    ssl = f"ssl = required\n{words.tls(cert, key)}ssl_min_protocol = TLSv1.2\n"
    return (("dovecot.conf", f"{words.head}protocols = imap pop3 sieve\n{_LOG}{words.users}{ssl}"),)


def _iredmail(words: Words, cert: str, key: str) -> Sequence[tuple[str, str]]:
    listeners = "service imap-login {\n    process_min_avail = 5\n}\n"
    return (
        ("dovecot.conf", f"{words.head}#\n# Administrator: keep local changes below.\n#\nlisten = * [::]\n\n"
         f"protocols = pop3 imap sieve\n\n{_LOG}\nssl = required\nverbose_proctitle = yes\n{words.tls(cert, key)}"
         f"ssl_min_protocol = TLSv1.2\n\n{words.users}\n{listeners}\nservice managesieve-login {{\n    inet_listener sieve {{\n"
         f"        port = 4190\n    }}\n}}\nprotocol imap {{\n    mail_max_userip_connections = 30\n}}\n"),
    )  # fmt: skip


def _ispconfig(words: Words, cert: str, key: str) -> Sequence[tuple[str, str]]:
    return (
        ("dovecot.conf", f"{words.head}listen = *,[::]\nprotocols = imap pop3 sieve\nauth_mechanisms = plain login\n{_LOG}"
         f"\n{words.tls(cert, key)}ssl_min_protocol = TLSv1.2\n{words.users}"
         "service auth {\n  unix_listener auth-userdb {\n    mode = 0600\n  }\n  user = root\n}\n"
         "!include_try conf.d/99-ispconfig-custom-config.conf\n"),
    )  # fmt: skip


def _mailcow(words: Words, cert: str, key: str) -> Sequence[tuple[str, str]]:
    names = "".join(f"local_name {name} {{\n{words.tls(cert, key, '  ')}}}\n" for name in ("autoconfig.b.test", "mail.b.test"))
    return (
        ("dovecot.conf", f"{words.head}# --- local overrides go to extra.conf ---\nauth_mechanisms = plain login\n{_LOG}"
         f"ssl = yes\nssl_min_protocol = TLSv1.2\nprotocols = imap sieve pop3\n{words.users}{words.tls(cert, key)}"
         "!include_try /etc/dovecot/sni.conf\nremote 127.0.0.1 {\n  login_greeting = ready\n}\n"
         "!include_try /etc/dovecot/extra.conf\n"),
        ("sni.conf", names),
        ("extra.conf", ""),
    )  # fmt: skip


def _docker_mailserver(words: Words, cert: str, key: str) -> Sequence[tuple[str, str]]:
    return (
        ("dovecot.conf", f"{words.head}!include_try /usr/share/dovecot/protocols.d/*.protocol\n"
         f"protocols = imap pop3 sieve\n{_LOG}"
         "#dict {\n  #quota = mysql:/etc/dovecot/dovecot-dict-sql.conf.ext\n#}\n!include conf.d/*.conf\n"
         "!include_try local.conf\n"),
        ("conf.d/10-auth.conf", words.users),
        ("conf.d/10-ssl.conf", f"ssl = required\n\n{words.tls(cert, key)}\nssl_min_protocol = TLSv1.2\n"),
        ("conf.d/90-user.conf", "# user-patches\nprotocol pop3 {\n" + words.tls(cert, key, "    ") + "}\n"),
    )  # fmt: skip


#: Name to layout.
LAYOUTS = {
    "fedora": Layout(
        _fedora, _SUBMISSION + "submissions " + _SMTPS, "/etc/pki/dovecot/certs/dovecot.pem",
        "/etc/pki/dovecot/private/dovecot.pem", frozenset({"/etc/dovecot/conf.d/10-ssl.conf", _MASTER}),
        "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {cert}\nsmtpd_tls_key_file = {key}\n",
    ),
    "upstream examples": Layout(
        _upstream, _SUBMISSION + "smtps " + _SMTPS, "/etc/ssl/private/c.pem", "/etc/ssl/private/k.pem",
        frozenset({"/etc/dovecot/conf.d/10-ssl.conf", _MASTER}),
    ),
    "one file": Layout(
        _one_file, "465 " + _SMTPS + "587 inet n - n - - smtpd\n  -o smtpd_tls_security_level=encrypt\n",
        "/etc/ssl/private/c.pem", "/etc/ssl/private/k.pem", frozenset({_MAIN, _MASTER}),
    ),
    "like iRedMail": Layout(
        _iredmail, _SUBMISSION + "465 " + _SMTPS, "/etc/ssl/certs/iRedMail.crt", "/etc/ssl/private/iRedMail.key",
        frozenset({_MAIN, _MASTER}),
        "smtpd_tls_security_level = may\nsmtpd_tls_key_file = {key}\nsmtpd_tls_cert_file = {cert}\n"
        "smtpd_tls_CAfile = $smtpd_tls_cert_file\n",
    ),
    "like ISPConfig": Layout(
        _ispconfig, _SUBMISSION.replace(" - n ", " - y ") + "smtps     " + _SMTPS, "/etc/postfix/smtpd.cert",
        "/etc/postfix/smtpd.key", frozenset({_MAIN, _MASTER}),
        "smtpd_tls_cert_file = /etc/postfix/smtpd.cert\nsmtpd_tls_key_file = /etc/postfix/smtpd.key\nsmtpd_use_tls = yes\n",
    ),
    "like mailcow": Layout(
        _mailcow, "smtps " + _SMTPS + "10465 " + _SMTPS + _SUBMISSION
        + "588 inet n - n - - smtpd\n  -o smtpd_tls_security_level=encrypt\n",
        "/etc/ssl/mail/cert.pem", "/etc/ssl/mail/key.pem",
        frozenset({_MAIN, _MASTER, "/etc/postfix/certbot-dovecot-sni"}),
        "smtpd_tls_chain_files = /etc/ssl/mail/both.pem\n"
        "tls_server_sni_maps = inline:{{{{{name} = /etc/ssl/mail/both.pem}}}}\n",
        ((465, True), (10465, True), (587, False)),
    ),
    "like docker-mailserver": Layout(
        _docker_mailserver, _SUBMISSION + "submissions " + _SMTPS, "/etc/dms/tls/cert", "/etc/dms/tls/key",
        frozenset({"/etc/dovecot/conf.d/10-ssl.conf", "/etc/dovecot/conf.d/90-user.conf", _MASTER}),
        "smtpd_tls_chain_files =\nsmtpd_tls_cert_file = {cert}\nsmtpd_tls_key_file = {key}\nsmtpd_tls_security_level = may\n",
    ),
}  # fmt: skip
