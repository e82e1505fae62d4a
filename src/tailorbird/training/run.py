"""The training loop on one page: a plan in, an adapter and its events out."""

from __future__ import annotations

import dataclasses
import logging
import math
import resource
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from tailorbird.lm.adapter import load_adapter
from tailorbird.lm.lora import load_adapter_state
from tailorbird.protocol.training import (
    ADAPTER_FOLDER,
    CHECKPOINT_FOLDER,
    PROBES_FILE,
    CheckpointSaved,
    Finished,
    Interrupted,
    Metrics,
    Probe,
    Started,
    Step,
    TrainPlan,
    probes_to_json,
    result_columns,
)
from tailorbird.training import TrainingError
from tailorbird.training.checkpoints import (
    EventLog,
    Results,
    load_resume_point,
    plan_fingerprint,
    replace_file,
    save_resume_point,
)
from tailorbird.training.losses import example_logprobs
from tailorbird.training.methods import Figures, Method, load_method
from tailorbird.training.ranks import ALONE, Ranks
from tailorbird.training.split import dismiss, serve
from tailorbird.training.stopping import best_epoch
from tailorbird.training.trainee import LoadModel, Trainee, load_model
from tailorbird.training.turns import Stopwatch, Turns, to_the_end

log = logging.getLogger(__name__)

_LOG_EVERY = 10  # steps
_MEASURED_TOKENS = 1_000_000  # of the first batches, by which the memory of all is estimated


def run(
    plan: TrainPlan, *, stop_requested: Callable[[], bool] = lambda: False, ranks: Ranks = ALONE
) -> Finished | Interrupted:
    """Trains from wherever the run folder stands to the end, or to the first step after `stop_requested` turns true.

    Safe to call again at any time: a finished run only returns its last event. Raises TrainingError when the run
    cannot go on; writing the Failed event is the caller's part.
    """
    with torch_settings(plan):
        outcome = to_the_end(run_in_turns(plan, stop_requested=stop_requested, ranks=ranks))
    dismiss(ranks)
    return outcome


def assist(plan: TrainPlan, ranks: Ranks) -> None:
    """The part of every process but the first: computes what that one hands out, and writes nothing."""
    with torch_settings(plan):
        trainee = Trainee.build(plan, ranks=ranks)
        serve(trainee.own, trainee.parameters, ranks)


def run_in_turns(
    plan: TrainPlan, *, stop_requested: Callable[[], bool], load: LoadModel = load_model, ranks: Ranks = ALONE
) -> Turns[Finished | Interrupted]:
    """`run`, step by step, for a caller who keeps torch's settings. `load` gives the base, maybe with others on it."""
    folder = Path(plan.run_folder)
    log_of_run = yield from EventLog.open(folder, give_up=stop_requested)
    if log_of_run is None:
        return Interrupted(0)
    watch = Stopwatch()
    with closing(log_of_run) as events:
        if events.finished:
            return events.finished
        method = load_method(plan)
        data = method.data
        trainee = Trainee.build(plan, load, ranks)
        fingerprint = plan_fingerprint(plan, data.epoch_tokens)
        point = load_resume_point(folder, fingerprint)
        if point and not events.covers(point.step):
            point = None
        done, seconds_before = (point.step, point.seconds) if point else (0, 0.0)

        def save(step: int) -> None:
            events.sync()
            save_resume_point(folder, trainee.resume_point(step, seconds_before + watch.seconds), fingerprint)

        def save_checkpoint(event: Step, *, epoch_end: bool) -> None:
            if not events.has_checkpoint(event.step):
                path = folder / CHECKPOINT_FOLDER / f"step-{event.step}"
                trainee.save_adapter(path)
                events.append(CheckpointSaved(event.step, event.epoch, str(path), event.metrics, epoch_end))

        def interrupt(step: int) -> Interrupted:
            if step:
                save_checkpoint(next(event for event in events.steps if event.step == step), epoch_end=False)
            save(step)
            interrupted = Interrupted(step)
            events.append(interrupted)
            return interrupted

        events.append(_started(method, trainee, done))
        prepared = yield from method.prepare(trainee.trained, fingerprint, stop_requested, watch)
        if not prepared:
            interrupted = Interrupted(done)  # the saved state, if there is one, is not in the model yet
            events.append(interrupted)
            return interrupted
        if point:
            trainee.restore(point)
        with closing(Results(folder, events.steps, result_columns(plan.method))) as results:
            told = watch.seconds
            for step in range(done + 1, data.total_steps + 1):
                if _worn_out(plan, events.steps, step - 1):
                    break
                yield from watch.turn()
                if stop_requested():
                    return interrupt(step - 1)
                event = _step(plan, method, trainee, step)
                event, told = dataclasses.replace(event, seconds=round(watch.seconds - told, 6)), watch.seconds
                if events.append(event):
                    results.append(event)
                _report(event)
                ends_epoch = step % data.steps_per_epoch == 0
                if ends_epoch:
                    save_checkpoint(event, epoch_end=True)
                if ends_epoch or step % plan.save_every == 0:
                    save(step)
        steps, final_step = data.total_steps, None
        if plan.patience:
            steps, final_step = _take_best(plan, trainee, events.steps)
        adapter = folder / ADAPTER_FOLDER
        trainee.save_adapter(adapter)
        replace_file(folder / PROBES_FILE, _probes(method, trainee, adapter).encode("ascii"))
        finished = Finished(
            steps=steps,
            trained_tokens=data.epoch_tokens * data.epoch(steps),
            train_seconds=round(seconds_before + watch.seconds, 3),
            adapter_path=str(adapter),
            results_path=str(results.path),
            probes_path=str(folder / PROBES_FILE),
            notes={
                "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                **trainee.notes(),
            },
            final_step=final_step,
        )
        events.append(finished)
        events.sync()
        return finished


def learning_rate(plan: TrainPlan, step: int, total_steps: int) -> float:
    """The rate of `step` (from 1): a straight climb to the peak, then the schedule, which ends just above zero."""
    warmup = max(1, round(plan.warmup_ratio * total_steps))
    if step <= warmup:
        return plan.learning_rate * step / warmup
    progress = (step - warmup) / (total_steps - warmup + 1)  # + 1: at zero the last step would be computed for nothing
    match plan.schedule:
        case "cosine":
            return plan.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        case "linear":
            return plan.learning_rate * (1 - progress)
        case "constant":
            return plan.learning_rate


def _started(method: Method[Any], trainee: Trainee, resumed_step: int) -> Started:
    data = method.data
    return Started(
        total_steps=data.total_steps,
        steps_per_epoch=data.steps_per_epoch,
        examples=len(data.training),
        epoch_tokens=data.epoch_tokens,
        trained_parameters=sum(parameter.numel() for parameter in trainee.parameters),
        resumed_step=resumed_step,
        notes=trainee.cut(method.batches(_MEASURED_TOKENS)),
        precision=method.plan.dtype,
        computed_as=trainee.computed_as,
        remarks=trainee.remarks,
    )


def _worn_out(plan: TrainPlan, steps: Iterable[Step], done: int) -> bool:
    """Whether the plan's patience has ended with step `done`."""
    best = best_epoch(steps, done) if plan.patience else None
    return best is not None and best.since >= plan.patience


def _take_best(plan: TrainPlan, trainee: Trainee, steps: Sequence[Step]) -> tuple[int, int]:
    """Puts the adapter of the best epoch into the model; the last step taken, and the step of that epoch."""
    last = max(step.step for step in steps)
    best = best_epoch(steps, last)
    assert best is not None  # a validation file is asked for with the patience, and an epoch has ended
    folder = Path(plan.run_folder) / CHECKPOINT_FOLDER / f"step-{best.step}"
    load_adapter_state(trainee.model, load_adapter(folder).tensors)
    return last, best.step


def _step(plan: TrainPlan, method: Method[Any], trainee: Trainee, step: int) -> Step:
    """One optimizer step on one batch, and the validation that belongs to it."""
    data = method.data
    rate = learning_rate(plan, step, data.total_steps)
    train = method.train(trainee.trained, step)
    limit = plan.max_grad_norm if plan.max_grad_norm > 0 else math.inf
    norm = torch.nn.utils.clip_grad_norm_(trainee.parameters, limit, foreach=True)
    if not (math.isfinite(train.loss) and torch.isfinite(norm)):
        lines = ", ".join(str(sample.line) for sample in data.batch(step))
        raise TrainingError(
            "not_finite",
            f"Training diverged: loss {train.loss} and gradient norm {norm.item()} at step {step} with learning rate "
            f"{rate:g}, on line(s) {lines} of the training file. A lower learning rate usually helps.",
        )
    for group in trainee.optimizer.param_groups:
        group["lr"] = rate
    trainee.optimizer.step()
    trainee.optimizer.zero_grad(set_to_none=True)  # a run that waits for its turn holds no gradient

    valid = method.validate(trainee.trained, step)
    ends_epoch = step % data.steps_per_epoch == 0
    return Step(
        step=step,
        total_steps=data.total_steps,
        epoch=data.epoch(step),
        learning_rate=rate,
        tokens=sum(sample.token_count for sample in data.batch(step)),
        metrics=_metrics(train, valid, method.validate_all(trainee.trained) if ends_epoch else None),
    )


def _metrics(train: Figures, valid: Figures | None, full: Figures | None) -> Metrics:
    return Metrics(
        train_loss=train.loss,
        train_mean_token_accuracy=train.accuracy,
        valid_loss=valid.loss if valid else None,
        valid_mean_token_accuracy=valid.accuracy if valid else None,
        full_valid_loss=full.loss if full else None,
        full_valid_mean_token_accuracy=full.accuracy if full else None,
        train_reward_accuracy=train.reward_accuracy,
        train_reward_margin=train.reward_margin,
        valid_reward_accuracy=valid.reward_accuracy if valid else None,
        valid_reward_margin=valid.reward_margin if valid else None,
        full_valid_reward_accuracy=full.reward_accuracy if full else None,
        full_valid_reward_margin=full.reward_margin if full else None,
    )


def _probes(method: Method[Any], trainee: Trainee, adapter: Path) -> str:
    """The log-probabilities the engine must reproduce, computed with the adapter as it lies on disk."""
    load_adapter_state(trainee.model, load_adapter(adapter).tensors)
    return probes_to_json(
        [Probe(list(e.token_ids), list(e.positions), example_logprobs(trainee.model, e)) for e in method.probes()]
    )


@contextmanager
def torch_settings(plan: TrainPlan) -> Generator[None]:
    """Threads, seed and deterministic kernels for the run; the caller's settings come back afterwards."""
    memory = cast(Any, torch.utils.deterministic)
    deterministic, filled = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    threads = torch.get_num_threads()
    if plan.threads > 0:
        torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # it writes NaN into every buffer before its first use
    try:
        yield
    finally:
        memory.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def _report(event: Step) -> None:
    if event.step % _LOG_EVERY and event.step not in (1, event.total_steps):
        return
    shown = {name: value for name, value in dataclasses.asdict(event.metrics).items() if value is not None}
    figures = " ".join(f"{name}={value:.4f}" for name, value in shown.items())
    log.info("step %d/%d epoch %d lr=%.3g %s", event.step, event.total_steps, event.epoch, event.learning_rate, figures)
