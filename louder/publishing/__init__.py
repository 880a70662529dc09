"""Versions of a model in a folder: whole ones, and what changed from one to the next.

publish(folder, state, measured=...)      from a model in memory; refused by the gate, the served version stays
roll_back(folder)                         to the version before
roll_back_if_worse(folder, measured)      when the served version has fallen beyond a bound

A service follows the folder: `louder serve FOLDER`.
"""

from louder.publishing.chain import Version, current_version
from louder.publishing.gate import Bounds, WindowMetrics
from louder.publishing.publish import Keeping, Published, publish, roll_back, roll_back_if_worse
from louder.publishing.state import ModelState, state_of_run

__all__ = [
    "Bounds",
    "Keeping",
    "ModelState",
    "Published",
    "Version",
    "WindowMetrics",
    "current_version",
    "publish",
    "roll_back",
    "roll_back_if_worse",
    "state_of_run",
]
