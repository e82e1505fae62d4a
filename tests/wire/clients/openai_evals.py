"""Calls of evals, graders and checkpoint permissions."""

from __future__ import annotations

from typing import Any

from call_log import Run, done, same, wait_until, walk

GRADER = {
    "type": "string_check", "name": "exact", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}",
    "operation": "eq",
}  # fmt: skip
ROW_SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}, "said": {"type": "string"}}}
CRITERION = {**GRADER, "input": "{{ item.said }}"}


async def graders(run: Run) -> None:
    if not run.has("fine_tuning.alpha.graders.run"):
        return
    grade = run.client.fine_tuning.alpha.graders
    async with run.call("fine_tuning.alpha.graders.validate"):
        found = await done(grade.validate(grader=GRADER))
        same((found.grader.type, found.grader.name), ("string_check", "exact"))
    async with run.call("fine_tuning.alpha.graders.run"):
        found = await done(grade.run(grader=GRADER, model_sample="yes", item={"answer": "yes"}))
        same((found.reward, found.metadata.name, found.metadata.type), (1.0, "exact", "string_check"))
        same([name for name, broken in found.metadata.errors.to_dict().items() if broken], [], "errors")
        found = await done(grade.run(grader=GRADER, model_sample="no", item={"answer": "yes"}))
        same(found.reward, 0.0)


async def permissions(run: Run) -> None:
    """OpenAI's surface only."""
    if not run.openai_words or not run.has("fine_tuning.checkpoints.permissions.create"):
        return
    # Of all calls the only ones that want an administrator: a token where a key is no longer enough.
    admin = run.client.with_options(api_key=run.given["token"])
    allowed, name = admin.fine_tuning.checkpoints.permissions, run.given["permitted"]
    async with run.call("fine_tuning.checkpoints.permissions.create"):
        made = await walk(allowed.create(name, project_ids=[run.given["project"]]))
        same([(p.object, p.project_id) for p in made], [("checkpoint.permission", run.given["project"])])
    async with run.call("fine_tuning.checkpoints.permissions.retrieve"):
        found = await done(allowed.retrieve(name, project_id=run.given["project"]))
        same([p.id for p in found.data], [made[0].id])
    if run.has("fine_tuning.checkpoints.permissions.list"):
        async with run.call("fine_tuning.checkpoints.permissions.list"):
            assert made[0].id in [p.id for p in await walk(allowed.list(name))]
    async with run.call("fine_tuning.checkpoints.permissions.delete"):
        gone = await done(allowed.delete(made[0].id, fine_tuned_model_checkpoint=name))
        same((gone.id, gone.object, gone.deleted), (made[0].id, "checkpoint.permission", True))


async def evals(run: Run) -> None:
    if not run.has("evals.create"):
        return
    client = run.client.evals
    async with run.call("evals.create"):
        source = {"type": "custom", "item_schema": ROW_SCHEMA, "include_sample_schema": False}
        made = await done(client.create(
            name=run.label, data_source_config=source, testing_criteria=[CRITERION], metadata={"run": run.label}
        ))  # fmt: skip
        same((made.object, made.name, made.data_source_config.type), ("eval", run.label, "custom"))
        assert "item" in made.to_dict()["data_source_config"]["schema"]["properties"], made
    async with run.call("evals.retrieve"):
        same((await done(client.retrieve(made.id))).id, made.id)
    async with run.call("evals.update"):
        same((await done(client.update(made.id, name="other"))).name, "other")
    async with run.call("evals.list"):
        assert made.id in [e.id for e in await walk(client.list(order="desc"))]
    await _eval_runs(run, made.id)
    async with run.call("evals.delete"):
        gone = await done(client.delete(made.id))
        same((gone.eval_id, gone.deleted), (made.id, True))


async def _eval_runs(run: Run, eval_id: str) -> None:
    # `error` of a run that is well is null, as in OpenAI's documentation; the SDK's strict mode wants an object.
    runs = run.lenient.evals.runs
    rows = [{"item": {"answer": "a", "said": "a"}}, {"item": {"answer": "b", "said": "c"}}]
    source: dict[str, Any] = {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
    async with run.call("evals.runs.create"):
        made = await done(runs.create(eval_id, name=run.label, data_source=source))
        same((made.object, made.eval_id), ("eval.run", eval_id))
    async with run.call("evals.runs.retrieve"):

        async def has_ended() -> bool:
            return (await done(runs.retrieve(made.id, eval_id=eval_id))).status in ("completed", "failed", "canceled")

        await wait_until("the eval run", has_ended)
        ended = await done(runs.retrieve(made.id, eval_id=eval_id))
        counts = ended.result_counts
        same((ended.status, counts.passed, counts.failed, counts.total), ("completed", 1, 1, 2))
    async with run.call("evals.runs.list"):
        same([r.id for r in await walk(runs.list(eval_id))], [made.id])
    async with run.call("evals.runs.output_items.list"):
        items = await walk(runs.output_items.list(made.id, eval_id=eval_id))
        same(sorted(item.status for item in items), ["fail", "pass"])
    async with run.call("evals.runs.output_items.retrieve"):
        found = await done(runs.output_items.retrieve(items[0].id, eval_id=eval_id, run_id=made.id))
        same(found.id, items[0].id)
    async with run.call("evals.runs.cancel"):
        asked = {
            "type": "completions", "model": run.given["chat"][run.surface],
            "source": {"type": "file_content", "content": rows * 200},
            "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{ item.said }}"}]},
            "sampling_params": {"max_completion_tokens": 64},
        }  # fmt: skip
        other = await done(runs.create(eval_id, name="stopped", data_source=asked))
        stopped = await done(runs.cancel(other.id, eval_id=eval_id))
        same(stopped.id, other.id)

        async def has_stopped() -> bool:
            return (await done(runs.retrieve(other.id, eval_id=eval_id))).status == "canceled"

        await wait_until("the stop", has_stopped)
    async with run.call("evals.runs.delete"):
        gone = await done(runs.delete(made.id, eval_id=eval_id))
        same((gone.run_id, gone.deleted), (made.id, True))
