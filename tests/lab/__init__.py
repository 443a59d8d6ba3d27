"""The lab: a whole mail host, with its real ports and default paths, that touches nothing of the machine.

The process that calls :func:`tests.lab.lab.enter` moves into a mount, network and host name namespace of its own (as
root), where ``/etc``, ``/var/lib``, ``/var/log``, ``/var/spool`` and ``/run`` are private.  What it starts from then on sees
that host: Dovecot and Postfix from the distribution's packages, certbot from this interpreter's environment, and Pebble as
the CA.  Two processes have two hosts.  When the process ends, however it ends, everything in its namespace is killed.

    with lab.enter() as here:
        host = here.host
        host.reset()                                       # as just installed, and running
        host.certbot("--installer", "dovecot", "-a", "standalone", "-d", "mail.example.test")
        host.served(993).digest

==============  ==========================================================================
lab             ``enter()``: namespace, host files, snakeoil pair, Pebble, reaper
mailhost        ``MailHost``: reset, start, stop, certbot, run, served, reloads, snapshot
distribution    the configuration that the packages ship, as an admin has switched it on
namespace       unshare, mounts, what runs in here
quiet           a DNS in which nothing is published
names           name servers that have something to say, and a cache that validates
clock           another date for a process that faketime cannot reach
nginx           a web server beside the mail servers
pebble, ca      the CA that certbot talks to; a CA for pairs that a test makes
commands        running a program so that nothing hangs
story, play     a page of the documentation, read and played
packages        what must be installed
demo            ``make demo``
==============  ==========================================================================
"""
