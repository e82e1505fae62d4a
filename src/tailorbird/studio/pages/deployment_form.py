"""The form that makes a deployment: model or checkpoint, name, SKU and capacity, with what they cost and allow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from nicegui import ui
from nicegui.elements.mixins.validation_element import ValidationElement

from tailorbird.studio import controls
from tailorbird.studio.client import Refused
from tailorbird.studio.pages import deployment_quote
from tailorbird.studio.pages.deployment_facts import NAME, load, short, suggested_name
from tailorbird.studio.visit import READ_JOB, READ_MODEL, SEE_DEPLOYMENTS, Visit

DEFAULT_CAPACITY = 10
# Until the estimate tells what the model can have.
_SKUS = ("Standard", "GlobalStandard", "DataZoneStandard", "DeveloperTier")


class DeploymentForm:
    """Lives in `place`; empty while it is closed, and `opener` is shown instead. What was filled in outlives a
    reload."""

    def __init__(self, visit: Visit, place: ui.element, opener: ui.element) -> None:
        self._visit = visit
        self._place = place
        self._opener = opener
        self._kept = visit.kept("deployment")
        self._models: dict[str, dict[str, Any]] = {}
        self._taken: list[str] = []
        self._estimate: Mapping[str, Any] | None = None
        self._asked = 0
        self._coming: tuple[str, bool] | None = None

    @property
    def was_open(self) -> bool:
        return bool(self._kept.get("open"))

    async def open(self, model: str = "") -> None:
        self._kept["open"] = True
        self._taken = [row.name for row in await load(self._visit)]
        # A fine-tuned model first: it is what people come for.
        listed = sorted(
            await _models(self._visit),
            key=lambda one: (not one.get("fine_tune"), -int(one["created_at"] if one.get("fine_tune") else 0)),
        )
        self._models = {one["id"]: one for one in listed}
        self._place.clear()
        self._opener.set_visibility(False)
        with self._place, controls.card(self._visit.t("deployments.create")):
            self._build()
        chosen = model or str(self._kept.get("model") or "")
        if chosen:
            await self._choose(chosen, rename=bool(model))
        self.name.run_method("focus")

    def close(self) -> None:
        self._kept.clear()
        self._place.clear()
        self._opener.set_visibility(True)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        t, kept = self._visit.t, self._kept
        sku = str(kept.get("sku", _SKUS[0]))
        with ui.element("div").classes("deploy-fields"):
            self.model = ui.select(
                self._options(),
                label=t("deployments.model"),
                with_input=True,
                on_change=lambda event: self._choose(str(event.value or ""), rename=True),
            ).props("outlined options-dense")
            self.checkpoint = ui.select(
                {}, label=t("deployments.checkpoint"), on_change=lambda event: self._quote(str(event.value or ""))
            ).props("outlined options-dense")
            self.checkpoint.set_visibility(False)
            self.name = ui.input(
                t("deployments.name"),
                value=str(kept.get("name", "")),
                on_change=self._named,
                validation=self._name_fault,
            ).props(f'outlined maxlength=64 autocomplete=off spellcheck=false hint="{t("deployments.name_hint")}"')
            self.sku = ui.select(
                list(dict.fromkeys([*_SKUS, sku])), label=t("deployments.sku"), value=sku, on_change=self._changed
            ).props("outlined options-dense")
            self.capacity = ui.number(
                t("deployments.capacity"),
                value=kept.get("capacity", DEFAULT_CAPACITY),
                min=1,
                step=1,
                precision=0,
                on_change=self._changed,
            ).props(f'outlined debounce=300 hint="{t("deployments.capacity_hint")}"')
        self.quote = ui.element("div")
        self.fault = ui.element("div")
        with ui.element("div").classes("row"):
            self.submit = ui.button(t("deployments.create"), on_click=self._create)
            self.submit.props("unelevated no-caps color=primary")
            ui.button(t("shell.cancel"), on_click=self.close).props("flat no-caps")

    def _options(self) -> dict[str, str]:
        t = self._visit.t
        return {
            name: t("deployments.tuned", model=short(name))
            if one.get("fine_tune")
            else t("deployments.base", model=name)
            for name, one in self._models.items()
        }

    def _name_fault(self, value: str) -> str | None:
        if not value:
            return None
        if not NAME.fullmatch(value):
            return self._visit.t("deployments.name_fault")
        if value.lower() in (name.lower() for name in self._taken):
            return self._visit.t("deployments.name_taken", name=value)
        return None

    # --- what happens -------------------------------------------------------------------------------------------------

    async def _choose(self, model: str, *, rename: bool) -> None:
        """A model, or a checkpoint by its name: the model it belongs to is chosen then, and itself beside it."""
        tuned = model.split(":ckpt-step-", 1)[0]
        if model and tuned not in self._models:
            # An id (ftchkpt-…), or a model of which only a checkpoint is left: the service will know it.
            self._models[model] = {"id": model, "fine_tune": True, "created_at": 0}
            self.model.set_options(self._options())
            tuned = model
        if self.model.value != tuned:
            # Comes back here by the select's own event, which knows of neither.
            self._coming = (model, rename)
            self.model.value = tuned or None
            return
        wanted, rename = self._coming or (model, rename)
        self._coming = None
        if rename or not self.name.value:
            self.name.value = suggested_name(wanted, self._taken) if wanted else ""
        await self._checkpoints(tuned, wanted)
        await self._quote(wanted)

    async def _checkpoints(self, model: str, wanted: str) -> None:
        t = self._visit.t
        options: dict[str, str] = {}
        job = self._models.get(model, {}).get("fine_tune")
        if isinstance(job, str) and self._visit.may(READ_JOB):
            try:
                rows = (await self._visit.api.fresh(f"/fine_tuning/jobs/{job}/checkpoints", 30.0))["data"]
            except Refused:
                rows = []  # The job was deleted, its model was not.
            for row in rows:
                name, step = row["fine_tuned_model_checkpoint"], row["step_number"]
                key = "deployments.last_step" if name == model else "deployments.step"
                options[name] = t(key, step=t.number(step))
        if self.checkpoint.is_deleted:
            return
        self.checkpoint.set_visibility(len(options) > 1)
        # Without an event: the quote is asked for once, by whoever called.
        self.checkpoint.set_options(options, value=wanted if wanted in options else (model if options else None))

    def _named(self) -> None:
        self._kept["name"] = self.name.value

    async def _changed(self) -> None:
        self._kept["sku"], self._kept["capacity"] = self.sku.value, self.capacity.value
        await self._quote(self._wanted())

    def _wanted(self) -> str:
        return str((self.checkpoint.value if self.checkpoint.visible else None) or self.model.value or "")

    async def _quote(self, model: str) -> None:
        """What it would cost and allow; a later question overtakes an earlier one."""
        self._asked += 1
        asked, self._kept["model"] = self._asked, model
        if not model or not self.capacity.value:
            self.quote.clear()
            return
        params = {"model": model, "sku": self.sku.value, "capacity": int(self.capacity.value)}
        try:
            told = await self._visit.api.own("GET", "/deployments/estimate", params=params)
        except Refused as error:
            if asked == self._asked and not self.quote.is_deleted:
                self._refuse(error)
            return
        if asked != self._asked or self.quote.is_deleted:
            return
        self._estimate = told
        for field in (self.model, self.sku, self.capacity):
            field.error = None
        self.fault.clear()
        if list(self.sku.options) != told["skus"]:
            self.sku.set_options(told["skus"], value=self.sku.value)
        if told["capacity"] > told["quota"]["left"]:
            left = self._visit.t.number(told["quota"]["left"])
            self.capacity.error = self._visit.t("deployments.over_quota", left=left)
        self.quote.clear()
        with self.quote:
            deployment_quote.show(self._visit, told)

    async def _create(self) -> None:
        model, name = self._wanted(), str(self.name.value or "").strip()
        t = self._visit.t
        if not model:
            self.model.error = t("deployments.model_missing")
            return
        if not name:
            self.name.error = t("deployments.name_missing")
            return
        if not self.name.validate():
            return
        body = {
            "sku": {"name": self.sku.value, "capacity": int(self.capacity.value or 0)},
            "properties": {"model": {"format": "OpenAI", "name": model}},
        }
        self.submit.props("loading")
        try:
            # An existing deployment of this name is not to be changed by a form that says it makes one.
            await self._visit.api.arm(
                "PUT", f"/deployments/{quote(name, safe='')}", json=body, headers={"If-None-Match": "*"}
            )
        except Refused as error:
            self._refuse(error)
            return
        finally:
            self.submit.props(remove="loading")
        self._kept.clear()
        ui.navigate.to(f"/deployments/{quote(name)}")

    def _refuse(self, error: Refused) -> None:
        """Beside the field that caused it, else below all of them."""
        fields: tuple[tuple[str, ValidationElement[Any]], ...] = (
            ("properties.model", self.checkpoint if self.checkpoint.visible else self.model),
            ("model", self.model),
            ("sku.name", self.sku),
            ("sku.capacity", self.capacity),
            ("capacity", self.capacity),
            ("name", self.name),
        )
        self.fault.clear()
        for prefix, field in fields:
            if error.param and error.param.startswith(prefix):
                field.error = error.message
                field.run_method("focus")
                return
        with self.fault:
            controls.problem(error)


async def _models(visit: Visit) -> list[dict[str, Any]]:
    """As the data plane lists them; from the control plane for an Owner who may deploy models and not use them."""
    if visit.may(READ_MODEL) or not visit.may(SEE_DEPLOYMENTS):
        return list((await visit.api.fresh("/models", 5.0))["data"])
    return [offered(row) for row in (await visit.api.fresh("/models", 5.0, plane="arm"))["value"]]


def offered(row: Mapping[str, Any]) -> dict[str, Any]:
    """A model of the control plane in the data plane's shape, where the version is part of the name."""
    default = row.get("isDefaultVersion") or row.get("baseModel")
    name = str(row["name"]) if default else f"{row['name']}-{row['version']}"
    made = datetime.fromisoformat(row["systemData"]["createdAt"])
    return {"id": name, "fine_tune": bool(row.get("baseModel")), "created_at": int(made.timestamp())}
