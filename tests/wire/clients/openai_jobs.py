"""Calls of fine-tuning jobs, their events and checkpoints, and of the models they leave behind."""

from __future__ import annotations

import csv
import io
from typing import Any

from call_log import Run, done, fields_for, same, wait_until, walk

BASE = "gpt-4o-mini-2024-07-18"


async def jobs(run: Run) -> None:
    client, given = run.client, run.given
    waiting = "validating_files" if run.openai_words else "pending"
    async with run.call("fine_tuning.jobs.create"):
        fields = fields_for(
            client.fine_tuning.jobs.create,
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}},
            metadata={"run": run.label},
            trainingType="GlobalStandard",
        )
        job = await done(client.fine_tuning.jobs.create(
            model="gpt-4o-mini", training_file=given["training_file"], validation_file=given["training_file"],
            suffix="wire", seed=105, **fields,
        ))  # fmt: skip
        assert job.id.startswith("ftjob-"), job
        same((job.object, job.model, job.seed), ("fine_tuning.job", BASE, 105))
        assert job.status in (waiting, "queued", "running"), job.status
        assert not job.error, job.error
        body = job.to_dict()
        same(body.get("user_provided_suffix" if run.openai_words else "suffix"), "wire", "suffix")
        same(body.get("trainingType"), None if run.openai_words else "globalStandard", "trainingType")
        same(job.hyperparameters.n_epochs, 2, "n_epochs")
        same(job.hyperparameters.batch_size, "auto" if run.openai_words else -1, "batch_size")
    async with run.call("fine_tuning.jobs.retrieve"):
        found = await done(client.fine_tuning.jobs.retrieve(job.id))
        same((found.id, found.created_at), (job.id, job.created_at))
    async with run.call("fine_tuning.jobs.cancel"):
        stopped = await done(client.fine_tuning.jobs.cancel(job.id))
        same(stopped.id, job.id)
        await wait_until("the end", lambda: _State(run).is_one_of(job.id, "cancelled"))
    async with run.call("fine_tuning.jobs.list"):
        # Somebody else's job may be paused just now, a state that no version of the SDK has.
        listed = [j.id for j in await walk(run.lenient.fine_tuning.jobs.list(limit=5))]
        assert {job.id, given["job"]} <= set(listed), listed
        same(len(listed), len(set(listed)), "ids listed")
    async with run.call("fine_tuning.jobs.list by metadata"):
        query = {"metadata[run]": run.label}
        same([j.id for j in await walk(client.fine_tuning.jobs.list(extra_query=query))], [job.id])
    async with run.call("fine_tuning.jobs.create with every hyperparameter null"):
        nothing = {"n_epochs": None, "batch_size": None, "learning_rate_multiplier": None}
        await _created_and_cancelled(run, given["training_file"], {"hyperparameters": nothing, "seed": None})
    async with run.call("fine_tuning.jobs.create with method dpo"):
        made = await _created_and_cancelled(run, given["preference_file"], {"method": {"type": "dpo"}})
        same(made.to_dict()["method"]["type"], "dpo", "method")


async def _created_and_cancelled(run: Run, file: str, body: dict[str, Any]) -> Any:
    jobs = run.client.fine_tuning.jobs
    made = await done(jobs.create(model=BASE, training_file=file, extra_body=body))
    await done(jobs.cancel(made.id))
    await wait_until("the end", lambda: _State(run).is_one_of(made.id, "cancelled"))
    return made


async def story(run: Run) -> None:
    """What the job that was trained for all left behind."""
    client, given = run.client, run.given
    async with run.call("fine_tuning.jobs.list_events"):
        events = await walk(client.fine_tuning.jobs.list_events(given["job"], limit=10))
        same(len(events), len({event.id for event in events}), "ids of events")
        assert len(events) > 10, "more than one page is needed"
        assert [e.created_at for e in events] == sorted((e.created_at for e in events), reverse=True)
        assert {event.level for event in events} <= {"info", "warn" if run.openai_words else "warning"}
        metrics = [event for event in events if event.to_dict().get("type") == "metrics"]
        assert any("training loss=" in event.message for event in metrics), events[0]
    async with run.call("fine_tuning.jobs.checkpoints.list"):
        checkpoints = await walk(client.fine_tuning.jobs.checkpoints.list(given["job"]))
        same(checkpoints[0].fine_tuned_model_checkpoint, given["models"][run.surface])
        same([c.step_number for c in checkpoints], sorted((c.step_number for c in checkpoints), reverse=True))
        assert checkpoints[1].fine_tuned_model_checkpoint.endswith(f":ckpt-step-{checkpoints[1].step_number}")
        assert all(isinstance(c.metrics.train_loss, float) for c in checkpoints)
    async with run.call("fine_tuning.jobs.retrieve when it has ended"):
        job = await done(client.fine_tuning.jobs.retrieve(given["job"]))
        same((job.status, job.fine_tuned_model), ("succeeded", given["models"][run.surface]))
        assert job.trained_tokens > 0, job
        assert job.finished_at >= job.created_at, job
    async with run.call("files.content of the results"):
        content = await done(client.files.content(job.result_files[0]))
        table = list(csv.DictReader(io.StringIO(content.read().decode())))
        same(list(table[0])[:2], ["step", "train_loss"])
        same(table[-1]["step"], str(checkpoints[0].step_number))


async def training(run: Run) -> None:
    """A job of our own: started, paused and resumed where the SDK can, trained to its end, its model deleted."""
    jobs, state = run.lenient.fine_tuning.jobs, _State(run)
    can_pause = run.has("fine_tuning.jobs.pause") and run.has("fine_tuning.jobs.resume")
    async with run.call("fine_tuning.jobs.create, to be trained"):
        job = await done(jobs.create(
            model=BASE, training_file=run.given["training_file"],
            hyperparameters={"n_epochs": 3 if can_pause else 1, "batch_size": 2},
        ))  # fmt: skip
    if can_pause:
        await wait_until("the first step", lambda: state.has_stepped(job.id))
        async with run.call("fine_tuning.jobs.pause"):
            paused = await done(jobs.pause(job.id))
            # OpenAI has no word for what lies between.
            assert paused.status in ("running" if run.openai_words else "pausing", "paused"), paused.status
            await wait_until("the pause", lambda: state.is_one_of(job.id, "paused"))
            await wait_until("the checkpoint of a paused job", lambda: state.has_a_checkpoint(job.id))
        async with run.call("fine_tuning.jobs.resume"):
            resumed = await done(jobs.resume(job.id))
            assert resumed.status in ("resuming", "queued", "running"), resumed.status
    async with run.call("fine_tuning.jobs.retrieve until it has succeeded"):
        await wait_until("the end", lambda: state.is_one_of(job.id, "succeeded", "failed", "cancelled"))
        ended = await done(jobs.retrieve(job.id))
        same(ended.status, "succeeded", f"status ({ended.error})")
    async with run.call("models.delete"):
        gone = await done(run.client.models.delete(ended.fine_tuned_model))
        same((gone.id, gone.object, gone.deleted), (ended.fine_tuned_model, "model", True))
        assert ended.fine_tuned_model not in [m.id for m in await walk(run.client.models.list())]
    await done(run.client.files.delete(ended.result_files[0]))


class _State:
    def __init__(self, run: Run) -> None:
        self._jobs = run.lenient.fine_tuning.jobs

    async def is_one_of(self, job_id: str, *states: str) -> bool:
        return (await done(self._jobs.retrieve(job_id))).status in states

    async def has_a_checkpoint(self, job_id: str) -> bool:
        return bool(await walk(self._jobs.checkpoints.list(job_id)))

    async def has_stepped(self, job_id: str) -> bool:
        assert not await self.is_one_of(job_id, "succeeded", "failed"), "the job ended before it could be paused"
        page = await done(self._jobs.list_events(job_id))
        return any("training loss=" in event.message for event in page.data)
