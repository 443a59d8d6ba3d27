"""How many examples a property test plays."""

from __future__ import annotations

from hypothesis import settings

#: Whether the profile asks for less than usual (``--hypothesis-profile=package``).
FEW = settings().max_examples < 100


def examples(usual: int) -> int:
    """``usual``, or as many fewer as the profile has fewer than 100."""
    return max(1, usual * settings().max_examples // 100) if FEW else usual
