"""Fine-tuned models."""

from __future__ import annotations

import builtins

import sqlalchemy as sa

from tailorbird.domain.models import TunedModel
from tailorbird.infra.store.rows import Rows, either, insert_or_replace
from tailorbird.infra.tables.models import models

_MODELS = Rows(TunedModel, models)


class SqlModels:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, model: TunedModel) -> None:
        insert_or_replace(self._connection, models, _MODELS.values(model), ("account_id", "name"))

    def find(self, account_id: str, reference: str) -> TunedModel | None:
        """An OpenAI name carries eight digits of its job only; of two models that share one, the newest."""
        c = models.c
        named = either(c.seq, c.account_id == account_id, c.name == reference, c.openai_name == reference)
        return next(iter(_MODELS.all(self._connection, named, order=[c.seq.desc()])), None)

    def list(self, account_id: str) -> builtins.list[TunedModel]:
        order = [models.c.created_at, models.c.seq]
        return _MODELS.all(self._connection, models.c.account_id == account_id, order=order)

    def delete(self, account_id: str, name: str) -> bool:
        same = (models.c.account_id == account_id, models.c.name == name)
        return self._connection.execute(sa.delete(models).where(*same)).rowcount > 0
