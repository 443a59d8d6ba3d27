"""What stock certbot is told to make a standby: what the first lineage is renewed with, as its command line has it."""

from __future__ import annotations

import pytest

from certbot_dovecot import standby

COMMON = {"version": "5.8.0", "archive_dir": "x", "installer": "dovecot", "renew_hook": "cp", "dovecot_server_root": "/x"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, []),
        ({"authenticator": "standalone", "http01_port": "8080"}, ["--authenticator", "standalone", "--http-01-port", "8080"]),
        (
            {"authenticator": "webroot", "webroot_path": ["/a", "/b"], "webroot_map": {"a.test": "/a"}},
            ["--authenticator", "webroot", "--webroot-map", '{"a.test": "/a"}'],
        ),
        ({"authenticator": "webroot", "webroot_path": ["/a"]}, ["--authenticator", "webroot", "--webroot-path", "/a"]),
        (
            {"authenticator": "dns-rfc2136", "dns_rfc2136_credentials": "/c", "dns_rfc2136_propagation_seconds": "9"},
            ["--authenticator", "dns-rfc2136", "--dns-rfc2136-credentials", "/c", "--dns-rfc2136-propagation-seconds", "9"],
        ),
        (
            {"authenticator": "manual", "manual_auth_hook": "/h x", "pref_challs": ["dns-01"]},
            ["--authenticator", "manual", "--manual-auth-hook", "/h x", "--preferred-challenges", "dns-01"],
        ),
        (
            {"server": "https://ca/dir", "account": "abc", "key_type": "rsa", "rsa_key_size": "3072"},
            ["--server", "https://ca/dir", "--account", "abc", "--key-type", "rsa", "--rsa-key-size", "3072"],
        ),
        ({"allow_subset_of_names": "True", "elliptic_curve": "None", "pre_hook": "stop"},
         ["--allow-subset-of-names", "--pre-hook", "stop"]),
        ({"allow_subset_of_names": "False"}, []),
    ],
)
def test_what_it_is_renewed_with(params, expected):
    assert standby.options({**COMMON, **params}) == expected
