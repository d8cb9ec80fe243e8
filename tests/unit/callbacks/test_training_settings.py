from __future__ import annotations

from optinc.callbacks.training_settings import TrainingSettings
from optinc.runs.resume import SETTINGS_CALLBACK


def test_the_settings_are_in_the_state_that_a_resume_reads() -> None:
    callback = TrainingSettings({"seed": 1})
    assert callback.state_dict() == {"settings": {"seed": 1}}
    assert callback.state_key == SETTINGS_CALLBACK
