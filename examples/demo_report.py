"""What the demo shows at the end: the plot of results.csv, the table of answers and report.md."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_files import Question, exact_matches, same
from openai.types.fine_tuning import FineTuningJob
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from rich.console import Console
from rich.table import Table
from rich.text import Text

SHOWN_CHECKPOINTS = 5


@dataclass(frozen=True)
class Outcome:
    base_model: str
    job: FineTuningJob
    checkpoints: Sequence[FineTuningJobCheckpoint]
    questions: Sequence[Question]
    base_answers: Sequence[str]
    tuned_answers: Sequence[str]
    seconds: float  # from the start of the service to the last answer

    @property
    def base_matches(self) -> int:
        return exact_matches(self.base_answers, self.questions)

    @property
    def tuned_matches(self) -> int:
        return exact_matches(self.tuned_answers, self.questions)

    @property
    def tuned_is_better(self) -> bool:
        return self.tuned_matches > self.base_matches


def plot(results: Path, image: Path) -> None:
    """Loss and token accuracy over steps, training and validation in one picture. Blank cells are not drawn."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with results.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    def series(column: str) -> tuple[list[int], list[float]]:
        filled = [row for row in rows if row[column]]
        return [int(row["step"]) for row in filled], [float(row[column]) for row in filled]

    figure, (losses, accuracies) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axes, quantity in ((losses, "loss"), (accuracies, "mean_token_accuracy")):
        axes.plot(*series(f"train_{quantity}"), color="tab:blue", label="training batch")
        axes.plot(*series(f"valid_{quantity}"), color="tab:orange", alpha=0.6, label="validation batch")
        axes.plot(*series(f"full_valid_{quantity}"), "o-", color="tab:red", label="whole validation file")
        axes.set_xlabel("step")
        axes.set_title(quantity.replace("_", " "))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(image, dpi=110)
    pyplot.close(figure)


def checkpoint_table(checkpoints: Sequence[FineTuningJobCheckpoint]) -> Table:
    shown = checkpoints[:SHOWN_CHECKPOINTS]
    table = Table(title=f"The {len(shown)} newest checkpoints", title_justify="left")
    for heading in ("step", "id", "name to deploy", "train loss", "full valid loss", "full valid accuracy"):
        table.add_column(heading, overflow="fold")
    for checkpoint in shown:
        metrics = checkpoint.metrics
        numbers = (metrics.train_loss, metrics.full_valid_loss, metrics.full_valid_mean_token_accuracy)
        table.add_row(
            str(checkpoint.step_number),
            checkpoint.id,
            checkpoint.fine_tuned_model_checkpoint,
            *("" if number is None else f"{number:.4f}" for number in numbers),
        )
    return table


def show_answers(console: Console, outcome: Outcome) -> None:
    table = Table(title="Held-out questions", title_justify="left", show_lines=True)
    for heading in ("question", "base model", "tuned model", "expected"):
        table.add_column(heading, overflow="fold", ratio=1)
    rows = zip(outcome.questions, outcome.base_answers, outcome.tuned_answers, strict=True)
    for question, base, tuned in rows:
        table.add_row(
            Text(question.text), _marked(base, question), _marked(tuned, question), Text(question.expected.strip())
        )
    console.print(table)
    total = len(outcome.questions)
    console.print(f"Exact matches: base {outcome.base_matches} of {total}, tuned {outcome.tuned_matches} of {total}")


def _marked(answer: str, question: Question) -> Text:
    shown = answer.strip() if len(answer) < 240 else answer.strip()[:240] + " …"
    return Text(shown, style="green" if same(answer, question.expected) else "red")


def write_report(path: Path, outcome: Outcome, command: str) -> None:
    total = len(outcome.questions)
    job = outcome.job
    settings = job.hyperparameters
    lines = [
        "# Demo report",
        "",
        f"`{command}`, {outcome.seconds:.0f} s from starting the service to the last answer.",
        "",
        f"* Base model `{outcome.base_model}`, fine-tuned model `{job.fine_tuned_model}`.",
        f"* Job `{job.id}`, seed {job.seed}.",
        f"* Epochs {settings.n_epochs}, batch size {settings.batch_size}, "
        f"learning rate multiplier {settings.learning_rate_multiplier}, {job.trained_tokens} tokens trained.",
        f"* Exact matches on {total} held-out questions: base {outcome.base_matches}, tuned {outcome.tuned_matches}.",
        "",
        "![loss and token accuracy](results.png)",
        "",
        "| question | base model | tuned model | expected |",
        "| --- | --- | --- | --- |",
    ]
    for question, base, tuned in zip(outcome.questions, outcome.base_answers, outcome.tuned_answers, strict=True):
        verdict = "✓" if same(tuned, question.expected) else "✗"
        lines.append(
            f"| {_cell(question.text)} | {_cell(base)} | {verdict} {_cell(tuned)} | {_cell(question.expected)} |"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cell(text: str) -> str:
    shown = text.strip() if len(text) < 400 else text.strip()[:400] + " …"
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>").replace("`", "\\`")
