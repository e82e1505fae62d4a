"""The sample data: booking requests with the line of booking code each becomes, and the job made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tailorbird.studio.client import Api

TRAINING, VALIDATION = "sample.train.jsonl", "sample.valid.jsonl"
_FOLDER = Path(__file__).parent / "static"
_PREFERRED = "gpt-4o-mini-2024-07-18"
_EPOCHS, _SUFFIX = 3, "sample"

Row = dict[str, Any]


async def files(api: Api) -> tuple[Row, Row]:
    """Training and validation file in the account; those that are there already are taken. Raises Refused."""
    known = await api.every("/files", purpose="fine-tune")
    return await _file(api, TRAINING, known), await _file(api, VALIDATION, known)


async def _file(api: Api, name: str, known: list[Row]) -> Row:
    content = (_FOLDER / name).read_bytes()
    for row in known:
        if row["filename"] == name and row["bytes"] == len(content) and row["status"] != "error":
            return row
    form = {"file": (name, content, "application/jsonl")}
    return await api.data("POST", "/files", data={"purpose": "fine-tune"}, files=form)


async def start(api: Api) -> str:
    """The job's id. Raises Refused."""
    training, validation = await files(api)
    body = {
        "model": model_for((await api.data("GET", "/models"))["data"]),
        "training_file": training["id"],
        "validation_file": validation["id"],
        "suffix": _SUFFIX,
        "seed": 105,
        "hyperparameters": {"n_epochs": _EPOCHS},
    }
    return (await api.data("POST", "/fine_tuning/jobs", json=body))["id"]


def model_for(rows: list[Row]) -> str:
    """The model of Azure's tutorial where it is offered, else the first chat model that can be tuned."""
    able = [
        row["id"]
        for row in rows
        if row["capabilities"]["fine_tune"] and row["capabilities"]["chat_completion"] and not row.get("fine_tune")
    ]
    return _PREFERRED if _PREFERRED in able or not able else able[0]
