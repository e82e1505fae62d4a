"""The training loop on one page: a plan in, an adapter and its events out."""

from __future__ import annotations

import dataclasses
import logging
import math
import resource
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from tailorbird.lm.adapter import AdapterError, load_adapter, save_adapter
from tailorbird.lm.loading import BaseModelError, load_base
from tailorbird.lm.lora import (
    LoraError,
    LoraSpec,
    adapter_state,
    all_linear,
    attach,
    load_adapter_state,
    lora_parameters,
)
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
)
from tailorbird.training import TrainingError
from tailorbird.training.batches import Example, RunData, epoch_order
from tailorbird.training.checkpoints import (
    EventLog,
    Results,
    ResumePoint,
    load_resume_point,
    plan_fingerprint,
    replace_file,
    save_resume_point,
)
from tailorbird.training.losses import Score, accumulate_gradients, evaluate, example_logprobs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

_LOG_EVERY = 10  # steps


def run(plan: TrainPlan, *, stop_requested: Callable[[], bool] = lambda: False) -> Finished | Interrupted:
    """Trains from wherever the run folder stands to the end, or to the first step after `stop_requested` turns true.

    Safe to call again at any time: a finished run only returns its last event. Raises TrainingError when the run
    cannot go on; writing the Failed event is the caller's part.
    """
    began = time.monotonic()
    folder = Path(plan.run_folder)
    log_of_run = EventLog.open(folder, give_up=stop_requested)
    if log_of_run is None:
        return Interrupted(0)
    with closing(log_of_run) as events, _torch_settings(plan):
        if events.finished:
            return events.finished
        data = RunData.load(plan)
        trainee = _Trainee.build(plan)
        fingerprint = plan_fingerprint(plan, data.epoch_tokens)
        point = load_resume_point(folder, fingerprint)
        if point and events.covers(point.step):
            trainee.restore(point)
        else:
            point = None
        done, seconds_before = (point.step, point.seconds) if point else (0, 0.0)

        def save(step: int) -> None:
            events.sync()
            save_resume_point(
                folder, trainee.resume_point(step, seconds_before + time.monotonic() - began), fingerprint
            )

        events.append(_started(data, trainee, done))
        with closing(Results(folder, events.steps)) as results:
            for step in range(done + 1, data.total_steps + 1):
                if stop_requested():
                    save(step - 1)
                    interrupted = Interrupted(step - 1)
                    events.append(interrupted)
                    return interrupted
                event = _step(plan, data, trainee, step)
                if events.append(event):
                    results.append(event)
                _report(event)
                ends_epoch = step % data.steps_per_epoch == 0
                if ends_epoch and not events.has_checkpoint(step):
                    path = folder / CHECKPOINT_FOLDER / f"step-{step}"
                    trainee.save_adapter(path)
                    events.append(CheckpointSaved(step, event.epoch, str(path), event.metrics))
                if ends_epoch or step % plan.save_every == 0:
                    save(step)
        adapter = folder / ADAPTER_FOLDER
        trainee.save_adapter(adapter)
        replace_file(folder / PROBES_FILE, _probes(plan, data, trainee, adapter).encode("ascii"))
        finished = Finished(
            steps=data.total_steps,
            trained_tokens=data.epoch_tokens * plan.n_epochs,
            train_seconds=round(seconds_before + time.monotonic() - began, 3),
            adapter_path=str(adapter),
            results_path=str(results.path),
            probes_path=str(folder / PROBES_FILE),
            notes={"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)},
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


def _started(data: RunData, trainee: _Trainee, resumed_step: int) -> Started:
    return Started(
        total_steps=data.total_steps,
        steps_per_epoch=data.steps_per_epoch,
        examples=len(data.training),
        epoch_tokens=data.epoch_tokens,
        trained_parameters=sum(parameter.numel() for parameter in trainee.parameters),
        resumed_step=resumed_step,
    )


def _step(plan: TrainPlan, data: RunData, trainee: _Trainee, step: int) -> Step:
    """One optimizer step on one batch, and the validation that belongs to it."""
    batch = data.batch(step)
    rate = learning_rate(plan, step, data.total_steps)
    trainee.optimizer.zero_grad(set_to_none=True)
    train = accumulate_gradients(trainee.model, batch, token_limit=plan.micro_batch_tokens)
    limit = plan.max_grad_norm if plan.max_grad_norm > 0 else math.inf
    norm = torch.nn.utils.clip_grad_norm_(trainee.parameters, limit, foreach=True)
    if not (math.isfinite(train.nll) and torch.isfinite(norm)):
        lines = ", ".join(str(example.line) for example in batch)
        raise TrainingError(
            "not_finite",
            f"Training diverged: loss {train.loss} and gradient norm {norm.item()} at step {step} with learning rate "
            f"{rate:g}, on line(s) {lines} of the training file. A lower learning rate usually helps.",
        )
    for group in trainee.optimizer.param_groups:
        group["lr"] = rate
    trainee.optimizer.step()

    def valid(examples: list[Example]) -> Score | None:
        return evaluate(trainee.model, examples, token_limit=plan.micro_batch_tokens) if examples else None

    ends_epoch = step % data.steps_per_epoch == 0
    return Step(
        step=step,
        total_steps=data.total_steps,
        epoch=data.epoch(step),
        learning_rate=rate,
        tokens=sum(len(example.token_ids) for example in batch),
        metrics=_metrics(train, valid(data.validation_batch(step)), valid(data.validation) if ends_epoch else None),
    )


def _metrics(train: Score, valid: Score | None, full: Score | None) -> Metrics:
    return Metrics(
        train_loss=train.loss,
        train_mean_token_accuracy=train.accuracy,
        valid_loss=valid.loss if valid else None,
        valid_mean_token_accuracy=valid.accuracy if valid else None,
        full_valid_loss=full.loss if full else None,
        full_valid_mean_token_accuracy=full.accuracy if full else None,
    )


@dataclass(slots=True)
class _Trainee:
    """The frozen base with its adapter, and the optimizer of the adapter's parameters."""

    model: PreTrainedModel
    spec: LoraSpec
    base_name: str
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer

    @classmethod
    def build(cls, plan: TrainPlan) -> _Trainee:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model = load_base(plan.base_model, dtype=getattr(torch, plan.dtype), device=device)
            initial = load_adapter(plan.initial_adapter) if plan.initial_adapter else None
            spec = initial.spec if initial else all_linear(model, rank=plan.lora_rank, alpha=plan.lora_alpha)
            if (spec.rank, spec.alpha) != (plan.lora_rank, plan.lora_alpha):
                raise LoraError(f"the first adapter has rank {spec.rank} and alpha {spec.alpha}, not the plan's")
            attach(model, spec, plan.seed)
            if initial:
                load_adapter_state(model, initial.tensors)
        except (BaseModelError, LoraError, AdapterError) as error:
            raise TrainingError("model_unusable", "The model to train could not be loaded.") from error
        parameters = lora_parameters(model)
        optimizer = torch.optim.AdamW(
            parameters, lr=plan.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=plan.weight_decay, fused=True
        )
        return cls(model, spec, Path(plan.base_model).name, parameters, optimizer)

    def save_adapter(self, folder: Path) -> None:
        save_adapter(folder, adapter_state(self.model), self.spec, self.base_name)

    def resume_point(self, step: int, seconds: float) -> ResumePoint:
        return ResumePoint(step, seconds, adapter_state(self.model), self.optimizer.state_dict(), torch.get_rng_state())

    def restore(self, point: ResumePoint) -> None:
        load_adapter_state(self.model, point.adapter)
        self.optimizer.load_state_dict(point.optimizer)
        torch.set_rng_state(point.random_state)


def _probes(plan: TrainPlan, data: RunData, trainee: _Trainee, adapter: Path) -> str:
    """The log-probabilities the engine must reproduce, computed with the adapter as it lies on disk."""
    load_adapter_state(trainee.model, load_adapter(adapter).tensors)
    order = epoch_order(len(data.training), seed=plan.seed, epoch=1)
    examples = [data.training[i] for i in order[: plan.probe_count]]
    return probes_to_json(
        [Probe(list(e.token_ids), list(e.positions), example_logprobs(trainee.model, e)) for e in examples]
    )


@contextmanager
def _torch_settings(plan: TrainPlan) -> Generator[None]:
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
