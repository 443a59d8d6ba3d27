"""Every case of both catalogues, and the ways of a remedy that are not played.

A remedy may offer several ways.  Each that is printed is played by a case of its finding (``Case.pick``), or has a reason here.
"""

from __future__ import annotations

from tests.integration import catalogue_doctor, catalogue_status

CASES = {
    **{f"status: {name}": case for name, case in catalogue_status.CASES.items()},
    **{f"doctor: {name}": case for name, case in catalogue_doctor.CASES.items()},
}

#: (finding, number of the way) to the reason why it is not played.
UNPLAYED_WAYS = {
    ("host.py:_scheduled:4", 0): "the lab has no systemd, and the timer is the package's",
    ("host.py:permissions:1", 1): "it is what comes after the first way; test_standby.py and test_dane.py play that switch",
}


def unplayed(finding: str, number: int) -> list[int]:
    """Which of the ways that a remedy of a finding offers no case plays, and no reason is given for.

    :param number: how many it offers.
    """
    played = {case.pick for case in CASES.values() if case.finding == finding}
    return [pick for pick in range(number) if pick not in played and (finding, pick) not in UNPLAYED_WAYS]
