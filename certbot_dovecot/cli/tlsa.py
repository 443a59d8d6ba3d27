"""``certbot-dovecot tlsa``: the records of what is served now; made for certbot's deploy hooks."""

from __future__ import annotations

import argparse
import json

from certbot_dovecot.cli import common


def add(commands: common.Commands) -> None:
    """Declare it."""
    tlsa = commands.add_parser(
        "tlsa",
        help="print and file the TLSA records of the keys that are served now",
        description="Ask every endpoint of this host which key it serves, print the TLSA records of the lineages' keys that "
        "are served, with a lineage's renewed key as next, and file them in the store (tlsa.zone, tlsa.json). "
        'Usable as certbot renew --deploy-hook "certbot-dovecot tlsa".',
    )
    tlsa.add_argument("--json", action="store_true", help="print JSON")
    common.add_lineages(tlsa)
    common.add_config_dir(tlsa)
    common.add_servers(tlsa)
    tlsa.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from certbot_dovecot import jobs, pairs, records
    from certbot_dovecot.dane import tlsa

    config_dir, names = common.lineages_of(args)
    documents = []
    # Of two lineages that change places, the records are those of the one that is served.
    served = {name: pairs.installed(jobs.home(config_dir), name) for name in names}
    for name in dict.fromkeys(served.values()):
        made = records.make(config_dir, name, jobs.options(config_dir, name, common.said(args)))
        if args.json:
            documents.append(json.loads(tlsa.as_json(name, made.records)))
        else:
            for asked in [asked for asked, other in served.items() if other == name != asked]:
                print(f"; {pairs.told(asked, name)}")
            print(tlsa.zone(name, made.records, made.names, made.behind).decode(), end="")
    if args.json:
        print(json.dumps(documents, indent=1))
    return 0
