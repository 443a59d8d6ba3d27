"""How hypothesis plays here: a busy machine, as those that build packages are, is no failure.

``--hypothesis-profile=package`` plays the same examples every time, and few of them, as a build of a package should.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("package", settings.get_profile("busy"), derandomize=True, max_examples=15)
settings.load_profile("busy")
