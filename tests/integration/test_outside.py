"""What comes from outside is data (rule R12), judged by the programs that read what we write, and by attacks on a real host."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess

import dns.zone
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from certbot_dovecot.dane import tlsa
from certbot_dovecot.problems import ConfProblem
from certbot_dovecot.servers import dovecot_conf, dovecot_edit, master_cf, sni_map
from certbot_dovecot.servers.contract import Pair
from certbot_dovecot.servers.sni_map import Table
from tests.integration import view
from tests.integration.test_commercial import AUTHORITY, csr, install, mail
from tests.integration.test_install import INSTALL
from tests.integration.test_renew import CONFIGURATIONS
from tests.lab.ca import CA
from tests.unit import hostile

TREES = (*CONFIGURATIONS, "/etc/letsencrypt")
#: As many as one run of each program is asked about.
MANY = 60


def once(strategy):
    """The values of one example: a whole list of them goes through one run of a program."""
    found = []

    @seed(1)
    @settings(max_examples=8, deadline=None, database=None)
    @given(st.lists(strategy, min_size=MANY // 4, max_size=MANY, unique=True))
    def draw(some):
        found.extend(some)

    draw()
    return list(dict.fromkeys(found))


def judge(*argv, given=b"", codes=(0,)):
    """What a program says on its standard output."""
    done = subprocess.run(argv, input=given, capture_output=True, check=False)
    assert done.returncode in codes, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.decode("utf-8", "surrogateescape")


def refused_or(make, *args):
    try:
        return make(*args)
    except ConfProblem:
        return None


def one_line(result):
    """It is refused in one line without a control character."""
    assert result.code == 1
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert not hostile.HIDDEN.search(result.stderr)
    return result.stderr


def test_a_name_in_a_certificate_does_not_become_configuration(mailhost):
    """The attack: with one lineage installed, the names of another certificate go into the file of further ones."""
    mailhost.certbot(*INSTALL)
    csr(mailhost, "ok.test")
    request = view.read("/etc/letsencrypt/dovecot/ok.test-external/2026.csr")
    made = AUTHORITY.answer(request)
    evil = hostile.leaf(AUTHORITY, ["ok.test", f"{hostile.ATTACK}\x1b[2J"], key=made.key)
    options = mail(cert=evil.cert_pem, bundle=made.chain_pem)
    before, served = mailhost.snapshot(*TREES), view.leaves(mailhost)
    said = one_line(install(mailhost, *options, check=False))
    assert said.startswith("certbot-dovecot: /etc/letsencrypt/from-the-ca/cert: the name 'x.test\" {\\n  ssl_cert = <")
    assert "in the certificate is neither a host name nor an IP address. Nothing was changed. Nothing of it may reach" in said
    # The plugin's own way, and a preview.
    own = hostile.leaf(AUTHORITY, ["ok.test", f"{hostile.ATTACK}\x1b[2J"])
    mailhost.run("mkdir", "/run/own")
    paths = own.write("/run/own")
    files = ("--cert-path", paths.cert, "--key-path", paths.key, "--chain-path", paths.chain)
    result = mailhost.certbot("install", "--installer", "dovecot", "-d", "ok.test", *files, check=False)
    assert result.code == 1
    assert "the name 'x.test\" {\\n" in result.stderr
    assert not hostile.HIDDEN.search(result.stderr + result.stdout)
    files = ("--cert", paths.cert, "--key", paths.key, "--chain", paths.chain)
    one_line(mailhost.run("certbot-dovecot", "plan", *files, "--names", "ok.test", check=False))
    # No path, and no word with a line break in it.
    for words, environment in (
        (("deploy", "../renewal"), {}),
        (("tlsa", "--store", "/a\nb"), {}),
        (("install-cert", *options, "--lineage", "../../x"), {}),
        (("deploy",), {"RENEWED_LINEAGE": "/etc/letsencrypt/live/.."}),
    ):
        setting = [f"{name}={value}" for name, value in environment.items()]
        one_line(mailhost.run("env", *setting, "certbot-dovecot", *words, check=False))
    result = mailhost.certbot(*INSTALL, "--dovecot-resolver", "::1\nx", check=False)
    assert result.code == 1
    assert "--dovecot-resolver: a line break or another control character is in it" in result.stderr
    assert view.changed(before, mailhost.snapshot(*TREES)) <= {"/etc/letsencrypt/.certbot.lock"}
    assert view.leaves(mailhost) == served


def test_a_foreign_certificate_with_such_names_is_looked_at_and_shown_escaped(mailhost):
    mailhost.certbot(*INSTALL)
    evil = hostile.leaf(CA.make(), [f"{hostile.ATTACK}\x1b[2J", "b\u00fccher.test\u202e"], "\x1b[31m")
    paths = evil.write("/etc/dovecot", "evil")
    mailhost.append("/etc/dovecot/local.conf", f"protocol pop3 {{\n{view.tls(paths.cert, paths.key, '  ')}}}\n")
    mailhost.run("doveadm", "reload")
    for words in (("status",), ("status", "--nagios"), ("doctor",), ("tlsa",), ("status", "--json")):
        result = mailhost.run("certbot-dovecot", *words, check=False)
        assert result.code in (0, 1, 2, 4), result.stderr
        assert "Traceback" not in result.stderr
        assert not hostile.HIDDEN.search(result.stdout + result.stderr), words
        if words == ("status",):
            assert "x.test\" {\\n  ssl_cert = </etc/ssl/x\\n}" in result.stdout


def test_metrics_replace_a_link_of_somebody_else(mailhost):
    mailhost.certbot(*INSTALL)
    directory, secret = "/run/collector", "/run/secret"
    os.mkdir(directory)
    os.chown(directory, pwd.getpwnam("nobody").pw_uid, -1)
    with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write("root's")
    path = f"{directory}/certbot_dovecot.prom"
    os.symlink(secret, path)
    assert mailhost.run("certbot-dovecot", "status", "--prometheus", path).stderr == ""
    assert (view.read(secret), stat.S_IMODE(os.lstat(secret).st_mode)) == (b"root's", 0o600)
    there = os.lstat(path)
    assert (stat.S_ISREG(there.st_mode), stat.S_IMODE(there.st_mode), there.st_uid) == (True, 0o644, 0)
    assert b"certbot_dovecot_grade 0\n" in view.read(path)
    assert os.listdir(directory) == ["certbot_dovecot.prom"]
    # Nor is a configuration written through such a link.
    master = f"{directory}/master.cf"
    shutil.move("/etc/postfix/master.cf", master)
    os.symlink(master, "/etc/postfix/master.cf")
    before = mailhost.snapshot(*CONFIGURATIONS, directory)
    result = mailhost.certbot("renew", "--force-renewal", "--new-key", "--no-reuse-key", check=False)
    assert result.code == 1
    assert f"others than root can write to the directory {directory}, so that" in result.stderr
    assert view.changed(before, mailhost.snapshot(*CONFIGURATIONS, directory)) == set()


def test_dovecot_reads_these_names_and_paths_and_nothing_else(mailhost):
    """What our writer does not refuse, ``doveconf`` reads as it was: every name, every path, and no other setting."""
    dialect = dovecot_conf.V24 if view.dovecot_version() >= (2, 4) else dovecot_conf.V23
    names = [(name, block) for name in once(hostile.NAME) if (block := refused_or(dovecot_edit.open_block, name))]
    paths = [
        (path, line) for path in once(hostile.PATH) if (line := refused_or(dovecot_edit.assign, dialect, dialect.cert, path))
    ]
    assert min(len(names), len(paths)) > MANY // 2
    # One name may stand in one block only, whatever its letters' case.
    names = list({name.lower(): (name, block) for name, block in names}.values())
    pairs = [(names[number % len(names)], paths[number % len(paths)]) for number in range(max(len(names), len(paths)))]
    wanted, lines = {}, []
    for (name, block), (path, line) in pairs:
        if name in wanted:
            name, block = f"n{len(wanted)}.test", dovecot_edit.open_block(f"n{len(wanted)}.test")
        wanted[name] = path
        lines += [block, line, dovecot_edit.assign(dialect, dialect.key, "/k"), b"}"]
    with open("/etc/dovecot/local.conf", "ab") as file:
        file.write(b"\n".join([b"", *lines, b""]))
    out = os.fsencode(judge("doveconf", "-n", "-P"))
    read = [one for one in dovecot_conf.parse_dump(out, dialect) if one.scope[:1] and one.scope[0][0] == "local_name"]
    # 2.4 gives names in small letters.
    said = {one.scope[0][1].lower(): one.value for one in read if one.setting == dialect.cert}
    assert said == {name.lower(): path for name, path in wanted.items()}
    assert {(one.setting, len(one.scope)) for one in read} == {(dialect.cert, 1), (dialect.key, 1)}
    assert len(read) == 2 * len(wanted)


def test_postfix_reads_these_names_and_paths_and_nothing_else(mailhost):
    names, paths = once(hostile.NAME), once(hostile.PATH)
    table = {}
    for number, name in enumerate(names):
        pair = Pair(paths[number % len(paths)], paths[-number % len(paths)])
        # An entry is refused for its name or for its path: each has its chance.
        for one, files in ((name, Pair("/c", "/k")), (f"n{number}.test", pair)):
            if refused_or(sni_map.dump, Table({one: files})):
                table[one.lower()] = files
    assert len(table) > MANY
    path = "/etc/postfix/certbot-dovecot-sni"
    with open(path, "wb") as file:
        file.write(sni_map.dump(Table(table)))
    asked = [*table, *(name for name in names if "\n" not in name and name.lower() not in table and name and "\0" not in name)]
    given_names = "".join(f"{name}\n" for name in asked).encode("utf-8", "surrogateescape")
    out = judge("postmap", "-q", "-", f"regexp:{path}", given=given_names, codes=(0, 1))
    answers = dict(line.split("\t", 1) for line in out.split("\n") if line)
    assert answers == {name: f"{pair.key} {pair.cert}" for name, pair in table.items()}

    data, wanted = view.read("/etc/postfix/master.cf"), {}
    for number, value in enumerate(paths):
        added = data + f"{10000 + number} inet n - n - - smtpd\n".encode()
        [entry] = [one for one in master_cf.parse(added, "/m") if one.name == str(10000 + number)]
        new = refused_or(master_cf.set_options, added, [entry], {entry.line: {"smtpd_tls_cert_file": value}}, "/m")
        if new is not None:
            data, wanted[f"{10000 + number}/inet/smtpd_tls_cert_file"] = new, value
    assert len(wanted) > MANY // 2
    with open("/etc/postfix/master.cf", "wb") as file:
        file.write(data)
    out = judge("postconf", "-P")
    said = dict(line.split(" = ", 1) for line in out.split("\n") if line.startswith("10"))
    assert said == wanted


def test_a_zone_has_the_records_of_these_names_and_nothing_else(mailhost):
    names = once(hostile.NAME)
    made = tlsa.records(names, {993: ["AB" * 32]})
    assert len(made) > MANY // 4
    head = "$ORIGIN .\n$TTL 60\n@ SOA ns.test. a.test. 1 1 1 1 1\n@ NS ns.test.\nns.test A 192.0.2.1\n"
    text = head + tlsa.zone(hostile.ATTACK, made, names).decode()
    mailhost.write("/run/zone", text)
    zone = dns.zone.from_text(text, origin=".", relativize=False, check_origin=False)
    owners = {name.to_text().lower() for name in zone.nodes} - {".", "ns.test."}
    hosts = {name.rstrip(".").lower() for name in names if tlsa.is_host(name)}
    assert owners == {f"_993._tcp.{host}." for host in hosts}
    # The parser of a name server says the same, where there is one.
    checker = next((path for path in ("/usr/bin/named-checkzone", "/usr/sbin/named-checkzone") if os.path.exists(path)), None)
    if checker:
        checked = "/run/zone.checked"
        judge(checker, "-i", "none", "-o", checked, ".", "/run/zone")
        lines = [line.split() for line in view.read(checked).decode().splitlines() if " TLSA" in line.replace("\t", " ")]
        assert {line[0].lower() for line in lines} == owners
