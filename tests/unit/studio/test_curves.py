"""Curves of a job: every step once, drawn with few points that lose no peak, and the hint when they part."""

from __future__ import annotations

from tailorbird.studio.curves import FULL_LOSS, MEAN_TRAIN_LOSS, TRAIN_LOSS, VALID_LOSS, Curves, Overfitting, thinned


def course(train: list[float], full: dict[int, float]) -> Curves:
    curves = Curves()
    points = [{"step": step, TRAIN_LOSS: loss} for step, loss in enumerate(train, start=1)]
    curves.add(point | ({FULL_LOSS: full[int(point["step"])]} if point["step"] in full else {}) for point in points)
    return curves


def test_points_are_kept_in_order_and_a_step_told_again_is_not_new() -> None:
    curves = Curves()
    assert len(curves.add([{"step": 1, TRAIN_LOSS: 3.0}, {"step": 3, TRAIN_LOSS: 1.0}])) == 2
    late = {"step": 2, TRAIN_LOSS: 2.0}
    assert curves.add([late, {"step": 3, TRAIN_LOSS: 0.5}]) == [late]
    assert curves.pairs(TRAIN_LOSS) == [[1, 3.0], [2, 2.0], [3, 0.5]]
    assert curves.pairs(VALID_LOSS) == []


def test_a_thinned_line_keeps_its_ends_its_order_and_its_peaks() -> None:
    line = [[float(step), 1.0] for step in range(10_000)]
    line[4321][1], line[7777][1] = 9.0, -9.0
    few = thinned(line, 800)
    assert len(few) <= 802
    assert (few[0], few[-1]) == (line[0], line[-1])
    assert line[4321] in few
    assert line[7777] in few
    assert few == sorted(few)
    assert thinned(line[:800], 800) == line[:800]


def test_the_mean_training_loss_covers_the_steps_since_the_last_full_validation() -> None:
    curves = course([4, 2, 1, 1], {2: 2.5, 4: 2.0})
    assert curves.pairs(MEAN_TRAIN_LOSS) == [[2, 3.0], [4, 1.0]]


def test_a_validation_loss_that_rises_while_the_training_loss_falls_is_over_fitting() -> None:
    curves = course([4, 3, 2, 1, 0.5, 0.2], {2: 2.0, 4: 1.5, 6: 1.8})
    assert curves.overfitting == Overfitting(best_step=4, best=1.5, last=1.8)


def test_curves_that_fall_together_or_rise_together_are_no_over_fitting() -> None:
    assert course([4, 3, 2, 1], {2: 2.0, 4: 1.5}).overfitting is None
    assert course([4, 3, 2, 1, 5, 6], {2: 2.0, 4: 1.5, 6: 9.0}).overfitting is None
    assert course([4, 3, 2, 1, 0.5, 0.2], {2: 2.0, 4: 1.5, 6: 1.51}).overfitting is None  # noise
    assert course([4, 3], {2: 2.0}).overfitting is None
    assert Curves().overfitting is None
