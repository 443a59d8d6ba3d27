"""Every package, built, looked through, installed, and tried: what ``make packages`` runs.

``debian``: a .deb for each suite, in a tree of it, without network; ``dist``: sdist and wheel; ``fedora``: the spec.  Nothing
is built or installed on the machine itself.  Only the standard library is used here, so that any Python will do.
"""
