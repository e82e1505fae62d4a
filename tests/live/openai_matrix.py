"""Which versions of the openai SDK are judges, on which surfaces, and what each of them does not have."""

from __future__ import annotations

from importlib.metadata import version
from itertools import product

from client_runs import Judge
from shared_service import SURFACES

NEWEST = version("openai")
VERSIONS = ("1.35.15", "1.109.1", "2.54.0", NEWEST)
# A job that is trained, paused, resumed and trained to its end takes longer than all other calls together.
MODES = ("sync", "async", "sync training", "async training")
QUICK = (
    *(Judge("openai", NEWEST, surface, "sync") for surface in SURFACES),
    Judge("openai", "1.109.1", "azure-2024-10-21", "sync"),
    Judge("openai", NEWEST, "openai", "sync training"),
)
"""What `make test` runs."""
FULL = tuple(
    judge for judge in (Judge("openai", *way) for way in product(VERSIONS, SURFACES, MODES)) if judge not in QUICK
)
"""What `make test-wire` runs besides."""

_LACKS = {
    "1.35.15": {
        "beta.chat.completions.parse", "chat.completions.list", "chat.completions.parse", "evals.create",
        "fine_tuning.alpha.graders.run", "fine_tuning.checkpoints.permissions.create", "uploads.create",
    },
    "1.109.1": {"fine_tuning.checkpoints.permissions.list"},
}  # fmt: skip
_LACKS_IN_TRAINING = {"1.35.15": {"fine_tuning.jobs.pause"}}
_ONLY_OPENAI = "fine_tuning.checkpoints."


def lacks(judge: Judge) -> set[str]:
    """Calls that this version does not have. Anything else that is absent is a call that nobody made."""
    missing = (_LACKS_IN_TRAINING if judge.trains else _LACKS).get(judge.version, set[str]())
    return {name for name in missing if judge.surface == "openai" or not name.startswith(_ONLY_OPENAI)}
