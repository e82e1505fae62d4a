"""The built-in classifier raises no alarm on data sets without a harmful line: one would stop a job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tailorbird
from tailorbird.domain.safety import Severity
from tailorbird.infra.moderation.builtin import Classifier

ROOT = Path(__file__).parents[4]
PUBLIC = ROOT.parent / "shared" / "data"


def alarms(folder: Path) -> tuple[int, int]:
    """How many messages of the folder's data sets there are, and how many are found harmful at the usual threshold."""
    classifier = Classifier.load(Path(tailorbird.__file__).parent / "moderation" / "classifier.npz")
    texts = [
        message["content"]
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8-sig").splitlines()
        for message in json.loads(line)["messages"]
    ]
    return len(texts), sum(max(scores.values()) >= Severity.MEDIUM for scores in classifier.classify(texts))


def test_the_examples_raise_no_alarm() -> None:
    messages, raised = alarms(ROOT / "examples")
    assert messages == 1680
    assert raised == 0


@pytest.mark.skipif(not PUBLIC.is_dir(), reason="the shared data sets are not beside this repository")
def test_the_public_data_sets_raise_no_alarm() -> None:
    messages, raised = alarms(PUBLIC)
    assert messages == 11427
    assert raised == 0
