"""nginx with one site, as an admin has it before certbot: port 80, a server name, and nothing about TLS.

    with nginx.run("mail.example.test"):
        host.certbot("--nginx", "-d", "mail.example.test")
        host.served(443).digest

Its configuration is in ``/etc/nginx``, where certbot-nginx looks, on a file system of its own that goes away at the end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator

from tests.lab import namespace, packages
from tests.lab.namespace import Unavailable

ROOT = "/etc/nginx"
_CONF = """\
events {
}
http {
    access_log off;
    include %s/sites-enabled/*;
}
"""
_SITE = """\
server {
    listen 80;
    server_name %s;
    root /usr/share/nginx/html;
}
"""


@contextlib.contextmanager
def run(name: str, seconds: float = 20) -> Iterator[int]:
    """Serve the site ``name``; what is yielded is the process id of the master.

    :raises Unavailable: nginx is not installed, or does not start.
    """
    lacking = packages.missing(packages.WEB_SERVERS)
    if lacking:
        raise Unavailable(f"the packages {' '.join(lacking)}")
    namespace.empty(ROOT)
    os.mkdir(f"{ROOT}/sites-enabled")
    os.makedirs("/var/log/nginx", exist_ok=True)
    os.makedirs("/var/lib/nginx", exist_ok=True)
    for path, text in ((f"{ROOT}/nginx.conf", _CONF % ROOT), (f"{ROOT}/sites-enabled/site.conf", _SITE % name)):
        with open(path, "w") as file:
            file.write(text)
    log = f"{namespace.PLACE}/nginx.log"
    with open(log, "wb") as out:
        # Dated by nobody: certbot runs "nginx -s reload", which finds the master by its process id in /run.
        process = subprocess.Popen(
            ["/usr/sbin/nginx", "-g", "daemon off;"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        deadline = time.monotonic() + seconds
        while 80 not in namespace.listening():
            if process.poll() is not None or time.monotonic() > deadline:
                with open(log, errors="replace") as file:
                    raise Unavailable(f"an nginx that starts: {file.read()}")
            time.sleep(0.01)
        yield process.pid
    finally:
        # SIGTERM ends the workers too.
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        namespace.unmount(ROOT)
