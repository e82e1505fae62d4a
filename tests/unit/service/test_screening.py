"""Training data is screened message by message; what was found is told by line, and nothing gets past a moderator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from tailorbird.domain.jobs import JobStatus, Stage
from tailorbird.domain.safety import Category, Finding, Scores, Severity, Thresholds
from tailorbird.service.patience import PatientModerator
from tailorbird.service.ports import ModeratorDown
from tailorbird.service.screening import findings_in, has_findings, texts_of_arguments

OWNER = "worker-1"
SAFE = dict.fromkeys(Category, Severity.SAFE)
MARKS = {
    "[hate]": (Category.HATE_FAIRNESS, Severity.MEDIUM),
    "[harm]": (Category.SELF_HARM, Severity.HIGH),
    "[violence]": (Category.VIOLENCE, Severity.MEDIUM),
    "[low]": (Category.SEXUAL, Severity.LOW),
}


class MarkModerator:
    """Finds what its marks say; `down` times it does not answer, for ever with -1."""

    def __init__(self, down: int = 0) -> None:
        self.down = down
        self.asked = 0

    async def score(self, texts: Sequence[str]) -> list[Scores]:
        self.asked += 1
        if self.down:
            self.down -= 1
            raise ModeratorDown("busy")
        return [SAFE | dict(found for mark, found in MARKS.items() if mark in text) for text in texts]


def chat(*contents: str) -> str:
    roles = ("system", "user", "assistant")
    return json.dumps({"messages": [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]})


def clean(count: int) -> list[str]:
    return [chat("You help.", f"question {i}", f"answer {i}") for i in range(count)]


def findings(house, job) -> list[dict[str, object]]:
    with house.store.begin() as tx:
        file = tx.files.get("acc", job.result_file or "")
    assert file is not None
    assert (file.filename, file.purpose) == ("findings.jsonl", "fine-tune-results")
    return [json.loads(line) for line in b"".join(house.blobs.read(file.blob_key)).splitlines()]


async def test_planted_rows_among_two_thousand_fail_the_job_with_azures_message_and_the_right_lines(house) -> None:
    lines = clean(2000)
    lines[41] = chat("You help.", "[violence] one", "fine")
    lines[977] = chat("You help.", "fine", "[hate] and [harm]")
    lines[1999] = chat("[low] is below the threshold", "fine", "[violence]")
    trainer = house.trainer()
    job = await house.pipeline(trainer, moderator=MarkModerator()).run(house.job(lines), OWNER)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.message == (
        "The provided training data failed RAI checks for harm types: [hate_fairness, self_harm, violence]. "
        "Please fix the data and try again."
    )
    assert job.error.param == "training_file"
    assert trainer.runs == []
    told = [(row["line"], row["role"], row["index"], row["category"], row["severity"]) for row in findings(house, job)]
    assert told == [
        (42, "user", 1, "violence", "medium"),
        (978, "assistant", 2, "hate_fairness", "medium"),
        (978, "assistant", 2, "self_harm", "high"),
        (2000, "assistant", 2, "violence", "medium"),
    ]
    failed = house.events(job)[-1]
    assert failed.key == "failed"
    assert (failed.data["file"], failed.data["findings"], failed.data["charged"]) == (job.result_file, 4, False)
    assert "findings_ready" in house.event_keys(job)


async def test_findings_are_read_page_by_page_as_they_were_written(house) -> None:
    lines = clean(12)
    for number in (2, 5, 7):
        lines[number] = chat("You help.", "[violence]", "fine")
    job = await house.pipeline(moderator=MarkModerator()).run(house.job(lines), OWNER)
    assert has_findings(job)
    assert not has_findings(house.job(clean(12)))
    with house.store.begin() as tx:
        file = tx.files.get("acc", job.result_file)
    content = b"".join(house.blobs.read(file.blob_key))
    # Chunks end wherever they like.
    pages = [findings_in((content[i : i + 7] for i in range(0, len(content), 7)), after, 2) for after in (0, 2, 9)]
    found = [Finding("training_file", n, "user", 1, Category.VIOLENCE, Severity.MEDIUM) for n in (3, 6, 8)]
    assert [page.items for page in pages] == [found[:2], found[2:], []]
    assert [page.has_more for page in pages] == [True, False, False]


async def test_the_same_rows_without_the_planted_ones_pass(house) -> None:
    job = await house.pipeline(moderator=MarkModerator()).run(house.job(clean(40)), OWNER)
    assert job.status is JobStatus.SUCCEEDED


async def test_a_validation_file_is_screened_as_well(house) -> None:
    valid = house.upload([chat("You help.", "fine", "[hate]")])
    job = await house.pipeline(moderator=MarkModerator()).run(house.job(clean(12), validation_file=valid), OWNER)
    assert job.error is not None
    assert job.error.param == "validation_file"
    assert [(row["file"], row["line"]) for row in findings(house, job)] == [("validation_file", 1)]


def test_the_strings_of_a_tool_calls_arguments_are_texts_of_their_own() -> None:
    assert set(texts_of_arguments('{"to": {"name": "Ann"}, "lines": ["a", 1, null]}')) == {
        "to",
        "name",
        "Ann",
        "lines",
        "a",
    }
    assert list(texts_of_arguments("no json")) == ["no json"]


async def test_findings_tell_where_and_never_what(house) -> None:
    lines = clean(12)
    lines[3] = chat("You help.", "[hate] secret words", "fine")
    job = await house.pipeline(moderator=MarkModerator()).run(house.job(lines), OWNER)
    assert "secret" not in json.dumps(findings(house, job))


async def test_a_moderator_that_is_down_is_waited_for_with_longer_and_longer_pauses(house) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    moderator = MarkModerator(down=4)
    pipeline = house.pipeline(moderator=moderator, moderator_pause=pause)
    job = await pipeline.run(house.job(clean(12)), OWNER)
    assert job.status is JobStatus.SUCCEEDED
    assert pauses == [1.0, 2.0, 4.0, 8.0]


async def test_a_moderator_that_stays_away_fails_the_job_uncharged_and_lets_nothing_through(house) -> None:
    async def pause(seconds: float) -> None:
        pass

    trainer = house.trainer()
    pipeline = house.pipeline(trainer, moderator=MarkModerator(down=-1), moderator_pause=pause, moderator_patience=5.0)
    job = await pipeline.run(house.job(clean(12)), OWNER)
    assert job.error is not None
    assert job.error.code == "moderatorUnavailable"
    assert "Nothing was charged" in job.error.message
    assert trainer.runs == []
    assert house.events(job)[-1].data["charged"] is False


async def test_a_moderator_that_answers_too_little_is_down(house) -> None:
    class Short:
        async def score(self, texts: Sequence[str]) -> list[Scores]:
            return [SAFE] * (len(texts) - 1)

    with pytest.raises(ModeratorDown, match="for 2 texts"):
        await PatientModerator(Short(), house.clock, 0.0).score(["a", "b"])


async def test_a_worker_killed_inside_the_screen_loses_nothing(house) -> None:
    class Hanging(MarkModerator):
        async def score(self, texts: Sequence[str]) -> list[Scores]:
            if self.asked == 2:
                await asyncio.sleep(60)
            return await super().score(texts)

    lines = clean(700)
    lines[5] = chat("You help.", "[hate]", "fine")
    job = house.job(lines)
    hanging = Hanging()
    task = asyncio.create_task(house.pipeline(moderator=hanging).run(job, OWNER))
    await house.until(lambda: hanging.asked == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    row = house.row(job)
    assert row.stage is Stage.SCREEN_DATA
    ended = await house.pipeline(moderator=MarkModerator()).run(row, OWNER)
    assert [found["line"] for found in findings(house, ended)] == [6]
    assert len(house.event_keys(ended)) == len(set(house.event_keys(ended)))


async def test_the_operators_threshold_decides(house) -> None:
    lines = clean(12)
    lines[3] = chat("You help.", "[low]", "[violence]")
    strict = Thresholds.parse("medium,sexual=low,violence=high")
    job = await house.pipeline(moderator=MarkModerator(), thresholds=strict).run(house.job(lines), OWNER)
    assert job.error is not None
    assert "[sexual]" in job.error.message
