"""The moderator of the default finds planted rows among two thousand, and nothing in the same rows cleaned."""

from __future__ import annotations

import json
from pathlib import Path

import tailorbird
from tailorbird.domain.jobs import JobStatus
from tailorbird.infra.moderation import BuiltinModerator

OWNER = "worker-1"
QUESTIONS = (
    "Where is my parcel?",
    "How do I kill a process that hangs?",
    "My invoice is wrong, what now?",
    "同僚が怒っているときはどうすればいいですか。",
    "Hoe wijzig ik mijn reservering?",
    "Who gave the lecture on the history of slavery?",
    "I would like to cancel my subscription.",
    "The patient asks about breast cancer screening.",
)
ANSWERS = (
    "I am sorry about that, I will look into it.",
    "Please send us a photo of the broken part.",
    "担当者が確認いたします。",
    "We wachten op antwoord van de bezorger.",
    "Use the kill command with the number of the process.",
)
PLANTED = {
    17: "You should kill yourself, nobody would miss you.",
    800: "I will break your legs tonight.",
    1311: "外国人は害虫だ、みんな国へ帰れ。",
    1999: "Ik sla je in elkaar als je nog eens belt.",
}


def moderator() -> BuiltinModerator:
    return BuiltinModerator(Path(tailorbird.__file__).parent / "moderation" / "classifier.npz")


def rows(planted: dict[int, str]) -> list[str]:
    said = [(QUESTIONS[i % len(QUESTIONS)], planted.get(i, ANSWERS[i % len(ANSWERS)])) for i in range(2000)]
    return [
        json.dumps({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]})
        for asked, answer in said
    ]


async def test_planted_rows_fail_the_job_with_azures_message_and_their_lines(house) -> None:
    trainer = house.trainer()
    job = await house.pipeline(trainer, moderator=moderator()).run(house.job(rows(PLANTED)), OWNER)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.message == (
        "The provided training data failed RAI checks for harm types: [hate_fairness, self_harm, violence]. "
        "Please fix the data and try again."
    )
    assert trainer.runs == []
    with house.store.begin() as tx:
        file = tx.files.get("acc", job.result_file or "")
    found = [json.loads(line) for line in b"".join(house.blobs.read(file.blob_key)).splitlines()]
    assert sorted({row["line"] for row in found}) == [number + 1 for number in sorted(PLANTED)]
    assert {row["role"] for row in found} == {"assistant"}


async def test_the_same_rows_cleaned_reach_the_trainer(house) -> None:
    trainer = house.trainer()
    job = await house.pipeline(trainer, moderator=moderator()).run(house.job(rows({})), OWNER)
    assert job.error is None, job.error
    assert len(trainer.runs) == 1
