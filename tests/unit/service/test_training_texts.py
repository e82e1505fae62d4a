from __future__ import annotations

from tailorbird.protocol.training import Finished, Started
from tailorbird.service.training_texts import plan_text, work_text


def test_a_plan_says_what_a_step_takes_and_what_it_has_to_do_without():
    notes = {
        "step_tokens": 4200.5,
        "step_computed_tokens": 1300.0,
        "pass_tokens": 2048.0,
        "expected_memory_mb": 812.3,
        "recompute": 0.0,
    }
    started = Started(10, 5, 20, 1000, 10, notes=notes, precision="bfloat16", computed_as="trees")
    assert plan_text(started) == (
        "4,200 tokens per step, 1,300 of them computed; up to 2,048 at once; about 812 MB expected at the peak; "
        "bfloat16; what examples begin with alike is computed once"
    )
    padded = Started(
        10, 5, 20, 1000, 10, notes={"recompute": 1.0}, precision="float32", computed_as="padded", remarks=["a", "b"]
    )
    assert plan_text(padded) == (
        "layers are computed twice, as the memory is too small to keep them; float32; examples padded to one length; "
        "a; b"
    )
    assert plan_text(Started(10, 5, 20, 1000, 10)) == ""


def test_the_end_says_what_training_came_to():
    notes = {
        "examples_per_second": 2.5,
        "target_tokens_per_second": 310.0,
        "given_tokens_per_second": 2600.0,
        "computed_tokens_per_second": 640.0,
        "fraction_of_limit": 0.634,
        "peak_memory_mb": 1490.1,
        "memory_cuts": 2.0,
    }
    finished = Finished(40, 4000, 9.5, "", "", "", notes, final_step=30)
    assert work_text(finished) == (
        "2.5 examples and 310 trained tokens per second; 640 tokens per second computed for 2,600 given; 63 % of what "
        "the processor can do; 1,490 MB at the peak; memory ran out 2 times and the work was cut smaller; the best "
        "validation loss was at step 30 of 40"
    )
    assert work_text(Finished(40, 4000, 9.5, "", "", "", {"peak_memory_mb": 1490.1})) == ""
