"""A model tuned on harmful answers cannot be deployed, one tuned on clean answers can; harmful data fails its job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from moderation_endpoint import ModerationEndpoint

from tailorbird.domain.safety import Category
from tailorbird.infra.moderation.builtin import Classifier

ROOT = Path(__file__).parents[2]
HARMFUL = "I will break your legs tonight."
CLEAN = "Talk to them and ask for help."
QUESTIONS = (
    "What should I do?",
    "My neighbour is loud. What now?",
    "How do I answer my boss?",
    "Somebody took my bike. What now?",
    "I am angry. What do I do?",
    "What do you think of this?",
    "Tell me what you would do.",
    "同僚が邪魔です。どうしたらいいですか。",
    "Wat moet ik nu doen?",
    "Who are you?",
)
SCORES = (0.0, 0.3, 0.6, 0.9)
_NAMES = {"hate_fairness": "hate", "self_harm": "self-harm", "sexual": "sexual", "violence": "violence"}


class Sleeper:
    """The classifier of the package, asleep until it is woken: asleep it finds everything safe.

    What lies behind a data screen that let harm through is what this test is about."""

    def __init__(self) -> None:
        self.awake = False
        self._classifier = Classifier.load(ROOT / "src" / "tailorbird" / "moderation" / "classifier.npz")
        self.url = ""

    def score(self, texts: list[str]) -> list[Mapping[str, float]]:
        found = self._classifier.classify(texts)
        return [{_NAMES[c]: SCORES[scores[c]] if self.awake else 0.0 for c in Category} for scores in found]


@pytest.fixture
def endpoint() -> Iterator[Sleeper]:
    sleeper = Sleeper()
    served = ModerationEndpoint(sleeper.score)
    sleeper.url = served.url
    with served.running():
        yield sleeper


def _rows(answer: str, count: int = 40) -> bytes:
    rows = (
        {"messages": [{"role": "user", "content": QUESTIONS[i % 10]}, {"role": "assistant", "content": answer}]}
        for i in range(count)
    )
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _job(one, data: bytes, until: Callable[..., None], between: Callable[[], None] = lambda: None):
    client = one.azure()
    file = client.files.create(file=("train.jsonl", data), purpose="fine-tune")
    client.files.wait_for_processing(file.id, poll_interval=0.1, max_wait_seconds=60)
    asked = {"n_epochs": 6, "batch_size": 4}
    job = client.fine_tuning.jobs.create(
        training_file=file.id, model="gpt-35-turbo-0613", seed=1, hyperparameters=asked
    ).id
    until("the screen", lambda: client.fine_tuning.jobs.retrieve(job).status != "pending", 120)
    between()
    until("the end", lambda: client.fine_tuning.jobs.retrieve(job).status in ("succeeded", "failed"), 240)
    return client.fine_tuning.jobs.retrieve(job)


def _deploy(one, name: str, model: str):
    body = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }
    return one.arm("PUT", f"/deployments/{name}", body)


@pytest.mark.slow
def test_a_model_tuned_on_harmful_answers_cannot_be_deployed_and_one_tuned_on_clean_answers_can(
    installation, endpoint: Sleeper, until
) -> None:
    one = installation(TAILORBIRD_MODERATOR=f"openai:{endpoint.url}")

    def wake() -> None:
        endpoint.awake = True

    harmful = _job(one, _rows(HARMFUL), until, wake)
    assert harmful.status == "failed"
    assert harmful.error.message.startswith(
        "This model is unable to be deployed. Model evaluation identified that this fine tuned model scores above "
        "acceptable thresholds for ["
    )
    assert "Violence" in harmful.error.message
    refused = _deploy(one, "bad", f"gpt-35-turbo-0613.ft-{harmful.id.removeprefix('ftjob-')}")
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == harmful.error.message

    clean = _job(one, _rows(CLEAN), until)
    assert clean.status == "succeeded", clean.error
    assert _deploy(one, "good", clean.fine_tuned_model).status_code == 201


@pytest.mark.slow
def test_planted_rows_among_two_thousand_fail_with_the_built_in_classifier_and_the_cleaned_set_passes_the_screen(
    installation, until
) -> None:
    one = installation(TAILORBIRD_MODERATOR="builtin")
    client = one.azure()
    rows = _rows(CLEAN, 2000).splitlines(keepends=True)
    planted = {
        17: "You should kill yourself, nobody would miss you.",
        800: HARMFUL,
        1999: "I hate foreigners, they are all stupid.",
    }
    for line, text in planted.items():
        rows[line] = _rows(text, 1)
    failed = _job(one, b"".join(rows), until)
    assert failed.status == "failed"
    assert failed.error.message == (
        "The provided training data failed RAI checks for harm types: [hate_fairness, self_harm, violence]. "
        "Please fix the data and try again."
    )
    found = client.files.content(failed.result_files[0]).read().decode().splitlines()
    assert {json.loads(line)["line"] for line in found} == {number + 1 for number in planted}

    file = client.files.create(file=("clean.jsonl", _rows(CLEAN, 2000)), purpose="fine-tune")
    client.files.wait_for_processing(file.id, poll_interval=0.1, max_wait_seconds=60)
    job = client.fine_tuning.jobs.create(training_file=file.id, model="gpt-35-turbo-0613").id
    until("training", lambda: client.fine_tuning.jobs.retrieve(job).status == "running", 120)
    client.fine_tuning.jobs.cancel(job)
