"""False alarms of the built-in classifier on data sets without a harmful line: told in its card, and held down."""

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


def test_the_examples_raise_no_more_alarms_than_the_card_says() -> None:
    messages, raised = alarms(ROOT / "examples")
    assert messages == 1680
    assert raised <= 5


@pytest.mark.skipif(not PUBLIC.is_dir(), reason="the shared data sets are not beside this repository")
def test_the_public_data_sets_raise_no_more_alarms_than_the_card_says() -> None:
    messages, raised = alarms(PUBLIC)
    assert messages > 10_000
    assert raised <= 6
