"""What validation says of a job's files: their kind, their tokens, the size of the whole job."""

from __future__ import annotations

import json

import pytest

from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.jobs import Hyperparameters, JobStatus, Method
from tailorbird.service.intake import check_kind

OWNER = "worker-1"


async def test_preference_pairs_train_with_dpo_and_both_sides_count(house, pairs) -> None:
    trainer = house.trainer()
    asked = Hyperparameters(n_epochs=1, batch_size=2, beta=0.3)
    job = await house.pipeline(trainer).run(house.job(pairs(12), method=Method.DPO, asked=asked), OWNER)
    assert job.status is JobStatus.SUCCEEDED, job.error
    assert (trainer.plans[0].method, trainer.plans[0].beta) == ("dpo", 0.3)
    renderer = house.catalogue.renderer("weaver")
    answer = [{"role": "assistant", "content": "good"}]
    messages = [[{"role": "user", "content": f"question {i}"}, *answer] for i in range(12)]
    preferred = sum(len(renderer.render_chat(turns, add_generation_prompt=False)) for turns in messages)
    assert job.epoch_tokens is not None
    assert preferred < job.epoch_tokens < 3 * preferred


async def test_auto_beta_reaches_the_plan_as_a_number(house, pairs) -> None:
    trainer = house.trainer()
    job = await house.pipeline(trainer).run(house.job(pairs(12), method=Method.DPO), OWNER)
    assert job.resolved is not None
    assert trainer.plans[0].beta == job.resolved.beta == 0.1


@pytest.mark.parametrize(("method", "kind"), [(Method.SUPERVISED, "pairs"), (Method.DPO, "rows")])
async def test_lines_of_the_other_method_fail_the_job_naming_the_remedy(
    house, rows, pairs, method: Method, kind: str
) -> None:
    lines = pairs(12) if kind == "pairs" else rows(12)
    job = await house.pipeline().run(house.job(lines, method=method), OWNER)
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "dpo" in job.error.message
    assert "supervised" in job.error.message


def test_a_completion_model_is_no_model_for_preference_pairs(house) -> None:
    entry = next(entry for entry in house.catalogue.entries if not entry.chat)
    with pytest.raises(InvalidRequest, match="needs a chat model") as caught:
        check_kind(entry, Method.DPO, "preference", "training_file")
    assert caught.value.param == "model"


async def test_the_worse_answer_is_screened_as_well(house, pairs) -> None:
    job = await house.pipeline().run(house.job(pairs(12, worse="forbidden"), method=Method.DPO), OWNER)
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("contentFilter", "training_file")


async def test_harms_in_the_validation_file_name_that_file(house, rows) -> None:
    job = house.job(validation_file=house.upload(rows(3, "forbidden")))
    ended = await house.pipeline().run(job, OWNER)
    assert ended.error is not None
    assert ended.error.param == "validation_file"


async def test_a_pair_whose_longer_side_does_not_fit_is_named(house, pairs) -> None:
    lines = pairs(12)
    lines[4] = pairs(1, worse="0123456789 " * 300)[0]
    job = await house.pipeline().run(house.job(lines, method=Method.DPO), OWNER)
    assert job.error is not None
    assert job.error.message.startswith("Line 5: ")


async def test_more_tokens_times_epochs_than_a_job_may_have_fail_it_with_azures_code(house) -> None:
    first = await house.pipeline().run(house.job(), OWNER)
    assert first.epoch_tokens is not None
    total = first.epoch_tokens * 4
    trainer = house.trainer()
    job = await house.pipeline(trainer, max_job_tokens=total - 1).run(house.job(), OWNER)
    assert job.error is not None
    assert job.error.code == "quotaExceeded"
    assert f"{total:,}" in job.error.message
    assert trainer.runs == []
    fits = await house.pipeline(max_job_tokens=total).run(house.job(), OWNER)
    assert fits.status is JobStatus.SUCCEEDED


async def test_a_template_that_changed_since_the_earlier_job_ends_the_later_one(house) -> None:
    first = await house.pipeline().run(house.job(), OWNER)
    later = house.job(model=first.fine_tuned_model)
    with house.store.begin() as tx:
        model = tx.models.find("acc", first.fine_tuned_model)
        tx.models.add(type(model)(**{f: getattr(model, f) for f in model.__slots__} | {"template_hash": "another"}))
    ended = await house.pipeline().run(later, OWNER)
    assert ended.error is not None
    assert ended.error.param == "model"
    assert "chat template" in ended.error.message
    with pytest.raises(InvalidRequest, match="chat template"):
        house.job(model=first.fine_tuned_model)


async def test_preference_training_continues_from_a_supervised_model(house, pairs) -> None:
    first = await house.pipeline().run(house.job(), OWNER)
    trainer = house.trainer()
    job = await house.pipeline(trainer).run(
        house.job(pairs(12), model=first.fine_tuned_model_openai, method=Method.DPO), OWNER
    )
    assert job.status is JobStatus.SUCCEEDED
    assert job.model == first.model, "named after the catalogue's model, not after what it went on from"
    assert trainer.plans[0].initial_adapter is not None
    assert json.loads(trainer.plans[0].to_json())["method"] == "dpo"
