"""Routes of cost, below our own prefix: estimates of jobs, usage with its charges, budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from tailorbird.api.auth import ACCOUNT_HEADER, allow, who_asks
from tailorbird.api.bodies import listing, read_body
from tailorbird.api.bodies.jobs import CreateJobBody
from tailorbird.api.bodies.usage import BudgetBody
from tailorbird.api.context import Given, Paging, Spoken, only_query, paging
from tailorbird.api.jobs import PATH as JOBS
from tailorbird.api.jobs import new_job
from tailorbird.domain.access import Account, Action, Principal
from tailorbird.domain.errors import InvalidRequest, PermissionDenied, Unauthenticated
from tailorbird.domain.pricing import Charge, Period, cents, period_start, shown, unit_of
from tailorbird.service.ports import GroupBy
from tailorbird.service.usage.estimates import Estimate, Range
from tailorbird.service.usage.reports import UsageReport, as_csv, plain

router = APIRouter(tags=["cost"])

PATH, BUDGET = "/usage", "/budget"

Writer = Annotated[Account, Depends(allow(Action.WRITE_JOB))]
Payer = Annotated[Account, Depends(allow(Action.WRITE_ACCOUNT))]


# --- what a request means ---------------------------------------------------------------------------------------------


def seen_accounts(
    request: Request, principal: Annotated[Principal, Depends(who_asks)], services: Given
) -> list[Account]:
    """A key sees its own account; a token those on which it may read usages. Raises Unauthenticated, PermissionDenied.

    An account's endpoint, the account header or `account` in the query asks for one of them."""
    endpoint: str | None = request.state.account
    wanted = endpoint or request.query_params.get("account") or request.headers.get(ACCOUNT_HEADER)
    seen = services.access.usage_accounts(principal)
    if wanted is not None:
        seen = [one for one in seen if wanted.lower() in (one.sub_domain.lower(), one.name.lower())]
    if not seen and principal.key_account is not None:
        raise Unauthenticated("This key belongs to another resource than the one that was asked for.")
    if not seen:
        raise PermissionDenied(
            "The usage of no resource can be seen with this token. It needs the role Cognitive Services Usages Reader, "
            "Reader, Contributor or Owner on the resource."
        )
    return seen


Seen = Annotated[list[Account], Depends(seen_accounts)]


@dataclass(frozen=True, slots=True)
class Span:
    start: datetime
    end: datetime


def span_asked(start: str | None = None, end: str | None = None) -> Span:
    """From the beginning of the month until now, unless the query says otherwise."""
    now = datetime.now(UTC)
    begins = period_start(Period.MONTH, now) if not start else _moment(start, "start")
    ends = now if not end else _moment(end, "end")
    if ends < begins:
        raise InvalidRequest(f"'end' ({ends.isoformat()}) lies before 'start' ({begins.isoformat()}).", param="end")
    return Span(begins, ends)


Spanned = Annotated[Span, Depends(span_asked)]


def _moment(text: str, param: str) -> datetime:
    try:
        if text.isascii() and text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
        if "T" not in text:
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        # A plus sign that was not escaped arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest(
            f"'{param}' must be a day (2026-11-01), a moment (2026-11-01T12:00:00Z) or seconds since 1970, not "
            f"'{text[:40]}'.",
            param=param,
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


# --- routes -----------------------------------------------------------------------------------------------------------


@router.post(JOBS + "/estimate", dependencies=[Depends(only_query())])
def estimate_job(
    account: Writer,
    body: Annotated[CreateJobBody, Depends(read_body(CreateJobBody))],
    services: Given,
    dialect: Spoken,
) -> Response:
    return JSONResponse(_estimate(services.cost.estimator.estimate(account.id, new_job(body, dialect))))


@router.get(PATH, dependencies=[Depends(only_query("start", "end", "group_by", "format", "account"))])
def read_usage(
    accounts: Seen,
    services: Given,
    span: Spanned,
    group_by: Annotated[GroupBy, Query()] = "day",
    shape: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response:
    report = services.cost.reports.usage(accounts, span.start, span.end, group_by)
    if shape == "csv":
        return PlainTextResponse(as_csv(report), media_type="text/csv")
    return JSONResponse(_usage(report) | {"budgets": _budgets(services, accounts)})


@router.get(PATH + "/charges", dependencies=[Depends(only_query("start", "end", "account", "after", "limit"))])
def list_charges(
    accounts: Seen, services: Given, span: Spanned, page: Annotated[Paging, Depends(paging(100))]
) -> Response:
    found = services.cost.reports.charges(accounts, span.start, span.end, after=page.after, limit=page.limit)
    names = {account.id: account.name for account in accounts}
    return JSONResponse(listing([_charge(charge, names) for charge in found.items], found.has_more))


@router.get(BUDGET, dependencies=[Depends(only_query("account"))])
def read_budget(accounts: Seen, services: Given) -> Response:
    if len(accounts) > 1:
        names = ", ".join(account.name for account in accounts)
        raise InvalidRequest(f"This token sees several resources ({names}); name one with 'account'.", param="account")
    return JSONResponse(services.cost.budgets.shown(services.cost.budgets.get(accounts[0].id)))


@router.put(BUDGET, dependencies=[Depends(only_query())])
def set_budget(
    account: Payer, body: Annotated[BudgetBody, Depends(read_body(BudgetBody))], services: Given
) -> Response:
    state = services.cost.budgets.put(account.id, body.amount, body.period, body.actions)
    return JSONResponse(services.cost.budgets.shown(state))


@router.delete(BUDGET, dependencies=[Depends(only_query())])
def remove_budget(account: Payer, services: Given) -> Response:
    services.cost.budgets.delete(account.id)
    return Response(status_code=204)


# --- out --------------------------------------------------------------------------------------------------------------


def _estimate(estimate: Estimate) -> dict[str, Any]:
    cost, chosen = estimate.cost, estimate.hyperparameters
    return {
        "object": "fine_tuning.job.estimate",
        "model": estimate.job.model,
        "method": estimate.job.method.value,
        "training_file": estimate.job.training_file,
        "validation_file": estimate.job.validation_file,
        "hyperparameters": {
            "n_epochs": chosen.n_epochs,
            "batch_size": chosen.batch_size,
            "learning_rate_multiplier": chosen.learning_rate_multiplier,
        },
        "examples": estimate.examples,
        "epoch_tokens": estimate.epoch_tokens,
        "trained_tokens": estimate.trained_tokens,
        "tokens_are_exact": estimate.exact,
        "steps": estimate.steps,
        "training_seconds": _range(estimate.training),
        "total_seconds": _range(estimate.total),
        "times_from": estimate.source.value,
        "measured_runs": estimate.measured_runs,
        "price": {
            "meter": cost.meter.value,
            "quantity": str(shown(cost.meter, cost.quantity)),
            "unit_price": plain(cost.unit_price),
            "amount": str(cents(cost.amount)),
            "low": str(cents(cost.low)),
            "high": str(cents(cost.high)),
            "currency": cost.currency,
            "price_list": cost.price_list,
        },
    }


def _range(seconds: Range) -> dict[str, float]:
    return {"low": round(seconds.low, 1), "likely": round(seconds.likely, 1), "high": round(seconds.high, 1)}


def _usage(report: UsageReport) -> dict[str, Any]:
    return {
        "object": "usage",
        "start": report.start.isoformat(),
        "end": report.end.isoformat(),
        "group_by": report.group_by,
        "currency": report.currency,
        "total": str(report.total),
        "data": [
            {
                report.group_by: row.group,
                "meter": row.meter.value,
                "quantity": str(row.quantity),
                "unit": row.unit,
                "unit_price": plain(row.unit_price),
                "amount": plain(row.amount),
            }
            for row in report.rows
        ],
    }


def _budgets(services: Given, accounts: Sequence[Account]) -> list[dict[str, Any]]:
    """Of the accounts that have one, with `warning` once a mark is passed."""
    shown_budgets: list[dict[str, Any]] = []
    for account in accounts:
        state = services.cost.budgets.find(account.id)
        if state is not None:
            warning = f"{state.reached} % of the budget are spent." if state.reached else None
            told = {"account": account.name, **services.cost.budgets.shown(state), "warning": warning}
            shown_budgets.append(told)
    return shown_budgets


def _charge(charge: Charge, names: dict[str, str]) -> dict[str, Any]:
    return {
        "id": charge.key,
        "object": "charge",
        "account": names[charge.account],
        "at": charge.at.isoformat(),
        "job": charge.job_id,
        "deployment": charge.deployment,
        "model": charge.model,
        "meter": charge.meter.value,
        "quantity": str(shown(charge.meter, charge.quantity)),
        "unit": unit_of(charge.meter),
        "unit_price": plain(charge.unit_price),
        "price_list": charge.price_list,
        "amount": plain(charge.amount),
    }
