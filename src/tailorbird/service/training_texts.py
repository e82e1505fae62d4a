"""What a training run tells of its plan and of its speed, as one sentence for people."""

from __future__ import annotations

from collections.abc import Mapping

from tailorbird.protocol import training as wire

_COMPUTED_AS: Mapping[wire.ComputedAs, str] = {
    "trees": "what examples begin with alike is computed once",
    "packs": "examples packed without padding",
    "padded": "examples padded to one length",
}


def plan_text(started: wire.Started) -> str:
    """Empty where the trainer says nothing of it."""
    notes = started.notes
    parts: list[str] = []
    if "step_tokens" in notes:
        parts.append(f"{notes['step_tokens']:,.0f} tokens per step")
        if "step_computed_tokens" in notes:
            parts[-1] += f", {notes['step_computed_tokens']:,.0f} of them computed"
    if "pass_tokens" in notes:
        parts.append(f"up to {notes['pass_tokens']:,.0f} at once")
    if "expected_memory_mb" in notes:
        parts.append(f"about {notes['expected_memory_mb']:,.0f} MB expected at the peak")
    if notes.get("recompute"):
        parts.append("layers are computed twice, as the memory is too small to keep them")
    if notes.get("processes", 1) > 1:
        parts.append(f"{notes['processes']:.0f} processes")
    if started.precision:
        parts.append(started.precision)
    if started.computed_as is not None:
        parts.append(_COMPUTED_AS[started.computed_as])
    return "; ".join([*parts, *started.remarks])


def work_text(finished: wire.Finished) -> str:
    """Empty where the trainer says nothing of it."""
    notes = finished.notes
    parts: list[str] = []
    if "examples_per_second" in notes:
        parts.append(
            f"{notes['examples_per_second']:,.4g} examples and {notes['target_tokens_per_second']:,.4g} trained tokens "
            "per second"
        )
        parts.append(
            f"{notes['computed_tokens_per_second']:,.4g} tokens per second computed for "
            f"{notes['given_tokens_per_second']:,.4g} given"
        )
    if "fraction_of_limit" in notes:
        parts.append(f"{100 * notes['fraction_of_limit']:.0f} % of what the processor can do")
    if parts and "peak_memory_mb" in notes:
        parts.append(f"{notes['peak_memory_mb']:,.0f} MB at the peak")
    if notes.get("memory_cuts"):
        parts.append(f"memory ran out {notes['memory_cuts']:.0f} times and the work was cut smaller")
    if finished.final_step is not None:
        parts.append(f"the best validation loss was at step {finished.final_step} of {finished.steps}")
    return "; ".join(parts)
