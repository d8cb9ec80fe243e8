"""Trainings and runs that used to end well with a wrong result, one test for each kind of fault.

The tests stand in ``silent_faults``, by the part of the project that they are about.
"""

from __future__ import annotations

import pytest

# Before they are imported, or a failed assertion would not show its values.
pytest.register_assert_rewrite("tests.integration.silent_faults")

from tests.integration.silent_faults.ddp import *  # noqa: E402, F403
from tests.integration.silent_faults.onn import *  # noqa: E402, F403
from tests.integration.silent_faults.runs import *  # noqa: E402, F403
from tests.integration.silent_faults.virtual import *  # noqa: E402, F403
