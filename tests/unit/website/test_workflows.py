"""Workflows of the public host: what their linter cannot know of this repository."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from website.links import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

JOBS = {
    f"{path.stem}/{name}": job
    for path in FILES
    for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
}

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def steps(key: str) -> list[Any]:
    """Values of a key in the steps of all jobs."""
    return [step[key] for job in JOBS.values() for step in job["steps"] if key in step]


def test_actions_are_pinned_by_commit_and_equal_everywhere() -> None:
    found: dict[str, set[str]] = {}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        pinned = re.findall(r"(?m)uses: ([\w./-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)$", text)
        assert len(pinned) == text.count("uses:")
        for action, version in pinned:
            found.setdefault(action, set()).add(version)
    assert "actions/checkout" in found
    assert all(len(versions) == 1 for versions in found.values()), found


@pytest.mark.parametrize("name", JOBS)
def test_a_job_ends_in_time_and_keeps_no_credentials(name: str) -> None:
    job = JOBS[name]
    assert 0 < job["timeout-minutes"] <= 90
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_may_read_and_only_its_jobs_ask_for_more(path: Any) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    asked = {name: job.get("permissions") for name, job in workflow["jobs"].items()}
    more = {name: permissions for name, permissions in asked.items() if permissions is not None}
    expected = {"release": {"contents": "write"}, "publish": {"id-token": "write"}}
    assert more == (expected if path.stem == "release" else {})


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {word for run in steps("run") for word in re.findall(r"^make ([\w-]+)", run)}
    targets |= {row["target"] for row in JOBS["ci/test"]["strategy"]["matrix"]["include"]}
    assert {"lint", "test", "test-fast", "test-oldest", "test-minimal", "docs"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_tests_run_on_every_python_that_the_package_claims() -> None:
    claimed = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    rows = JOBS["ci/test"]["strategy"]["matrix"]["include"]
    assert [row["python"] for row in rows] == claimed
    assert f'requires-python = ">={claimed[0]}"' in PROJECT
    oldest = JOBS["ci/oldest"]["steps"]
    versions = [step["with"].get("python-version") for step in oldest if "with" in step]
    assert versions == [None, claimed[0]]


def test_templates_ask_for_what_exists() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        form = yaml.safe_load(text)
        assert form.keys() in ({"blank_issues_enabled"}, {"name", "description", "labels", "body"})
        for file in re.findall(r"\b(?:docs|experiments)/[\w/]+\.\w+", text):
            assert (ROOT / file).is_file(), file
