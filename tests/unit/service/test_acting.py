"""Who acts: told once, known in threads and tasks, forgotten afterwards."""

from __future__ import annotations

import asyncio

from tailorbird.domain.access import Principal
from tailorbird.service import acting
from tailorbird.service.acting import Acting


def test_nobody_is_the_service_itself() -> None:
    assert acting.current() == Acting(principal_name=acting.SERVICE)


async def test_threads_and_tasks_act_in_the_same_name_and_tell_it_back() -> None:
    with acting.begun(Acting("r1")):
        await asyncio.to_thread(acting.identified, Principal("id", "anna"), "acc")
        task = asyncio.create_task(asyncio.to_thread(acting.current))
    assert acting.current().request_id == ""
    found = await task
    assert (found.request_id, found.principal_id, found.principal_name, found.account) == ("r1", "id", "anna", "acc")


def test_a_second_token_of_the_same_request_does_not_take_its_name() -> None:
    with acting.begun(Acting("r1")):
        acting.identified(Principal("id-1", "anna"), "acc-1")
        acting.identified(Principal("id-2", "bert"), "acc-2")
        assert (acting.current().principal_name, acting.current().account) == ("anna", "acc-1")


def test_what_is_said_outside_of_a_beginning_is_forgotten() -> None:
    acting.identified(Principal("id", "anna"))
    assert acting.current().principal_id == ""
