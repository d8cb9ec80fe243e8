from __future__ import annotations

import os
from pathlib import Path

from optinc.runs.run_record import RECORD_FILE, add_to_record, folders_of_job, read_record


def test_entries_are_added_to_the_record(tmp_path: Path) -> None:
    assert read_record(tmp_path) == {}
    add_to_record(tmp_path, job="1", start="0.")
    add_to_record(tmp_path, wandb="x", start="1.")
    assert read_record(tmp_path) == {"job": "1", "start": "1.", "wandb": "x"}
    (tmp_path / RECORD_FILE).write_text("{half")
    assert read_record(tmp_path) == {}


def test_the_folders_of_a_job_are_found_by_the_pattern_the_newest_first(tmp_path: Path) -> None:
    pattern = f"{tmp_path}/runs/${{now:%Y-%m-%d}}/${{now:%H-%M-%S}}"
    first, second = tmp_path / "runs/2026-01-01/10-00-00", tmp_path / "runs/2026-01-02/09-00-00-2"
    for folder, job in ((first, "7"), (second, "7"), (tmp_path / "runs/2026-01-02/x", "8")):
        add_to_record(folder, job=job)
    add_to_record(tmp_path / "runs/2026-01-01/10-00-00/0", job="7")
    os.utime(first / RECORD_FILE, (1, 1))
    assert folders_of_job(pattern, "7") == [second, first]
    assert folders_of_job(pattern, "9") == []
