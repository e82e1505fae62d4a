from __future__ import annotations

from typing import Any

import pytest
import torch

from tailorbird.protocol.generation import GenerationRequest
from tailorbird.serving.sampling import Sampler, make_sampler, prompt_logprobs, sample, token_logprobs

CPU = torch.device("cpu")


def sampler(index: int = 0, **fields: Any) -> Sampler:
    given: dict[str, Any] = {"model": "m", "prompt": [1], "max_tokens": 9}
    request = GenerationRequest(**(given | fields))
    return make_sampler(request, index, CPU)


def draws(logits: torch.Tensor, count: int, **fields: Any) -> list[int]:
    one = sampler(**fields)
    return [sample(logits[None], [one])[0] for _ in range(count)]


def test_temperature_zero_takes_the_likeliest() -> None:
    assert draws(torch.tensor([0.0, 3.0, 2.9]), 20, temperature=0.0) == [1] * 20


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.9999)])
def test_frequencies_follow_the_tempered_distribution(temperature: float, top_p: float) -> None:
    logits = torch.tensor([1.0, 0.0, 2.0, -1.0])
    found = torch.bincount(torch.tensor(draws(logits, 3000, temperature=temperature, top_p=top_p, seed=3)), minlength=4)
    assert (found / 3000).tolist() == pytest.approx(torch.softmax(logits / temperature, 0).tolist(), abs=0.03)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    assert set(draws(logits, 400, top_p=0.5, seed=1)) == {1}
    assert set(draws(logits, 400, top_p=0.51, seed=1)) == {1, 3}
    assert set(draws(logits, 400, top_p=0.76, seed=1)) == {1, 3, 2}


def test_a_flat_distribution_needs_more_than_the_first_candidates() -> None:
    found = draws(torch.zeros(2000), 400, top_p=0.9, seed=1)
    assert len(set(found)) > 300, "top_p 0.9 of a flat vocabulary is 1800 tokens"


def test_a_tiny_temperature_neither_overflows_nor_errs() -> None:
    assert draws(torch.tensor([100.0, 90.0, -100.0]), 20, temperature=2e-5) == [0] * 20


def test_the_same_seed_draws_the_same_whatever_the_company() -> None:
    torch.manual_seed(0)
    logits = torch.randn(12, 1000)
    alone = [[sample(logits[i][None], [one])[0] for _ in range(3)] for i, one in enumerate(company())]
    together = company()
    rows = [sample(logits, together) for _ in range(3)]
    assert [[row[i] for row in rows] for i in range(12)] == alone


def company() -> list[Sampler]:
    kinds: list[dict[str, Any]] = [{}, {"top_p": 0.5}, {"temperature": 0.0}, {"logit_bias": {3: 5.0}}]
    return [sampler(seed=i, **kinds[i % 4]) for i in range(12)]


def test_choice_i_draws_as_a_request_with_seed_plus_i() -> None:
    logits = torch.zeros(1, 500)
    assert sample(logits, [sampler(2, seed=5)]) == sample(logits, [sampler(0, seed=7)])
    assert sample(logits, [sampler(2, seed=5)]) != sample(logits, [sampler(0, seed=5)])


def test_without_a_seed_two_requests_differ() -> None:
    logits = torch.zeros(100_000)
    assert draws(logits, 3) != draws(logits, 3)


def test_negative_and_huge_seeds_are_fine() -> None:
    for seed in (-1, -(2**63), 2**63 - 1):
        assert draws(torch.zeros(1000), 8, seed=seed) == draws(torch.zeros(1000), 8, seed=seed)


def test_penalties_follow_openai_definition() -> None:
    one = sampler(presence_penalty=0.5, frequency_penalty=0.25)
    for token in (2, 2, 2, 0):
        one.drew(token)
    logits = torch.tensor([1.0, 1.0, 1.0])
    assert one.adjust(logits).tolist() == [1 - 0.25 - 0.5, 1.0, 1 - 0.75 - 0.5]
    assert logits.tolist() == [1.0, 1.0, 1.0], "log-probabilities are taken from the untouched row"


def test_the_prompt_does_not_count_for_penalties() -> None:
    one = sampler(prompt=[2, 2, 2], frequency_penalty=2.0)
    assert one.adjust(torch.zeros(3)).tolist() == [0.0] * 3


def test_a_bias_of_100_forces_and_of_minus_100_forbids_a_token() -> None:
    assert draws(torch.tensor([0.0, 5.0, 0.0]), 50, logit_bias={2: 100.0}) == [2] * 50
    assert 1 not in draws(torch.tensor([0.0, 5.0, 0.0]), 200, logit_bias={1: -100.0})
    assert draws(torch.tensor([0.0, 5.0]), 5, temperature=0.0, logit_bias={0: 6.0}) == [0] * 5


def test_logprobs_are_those_of_the_plain_distribution_best_first() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 9.0]])
    expected = logits.log_softmax(-1)
    first, second = token_logprobs(logits, [2, 0], 2)
    assert first.logprob == pytest.approx(expected[0, 2].item())
    assert [top.token_id for top in first.top] == [1, 2]
    assert [top.logprob for top in first.top] == pytest.approx([expected[0, 1].item(), expected[0, 2].item()])
    assert second.logprob == pytest.approx(expected[1, 0].item())
    assert token_logprobs(logits, [2, 0], 0)[0].top == []


def test_all_top_logprobs_sum_to_one() -> None:
    (found,) = token_logprobs(torch.randn(1, 15), [3], 15)
    assert sum(torch.tensor(top.logprob).exp().item() for top in found.top) == pytest.approx(1.0, abs=1e-5)


def test_prompt_logprobs_know_their_rank() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    found = prompt_logprobs(logits, [1, 0])
    assert [score.rank for score in found] == [1, 3]
    assert found[1].logprob == pytest.approx(logits.log_softmax(-1)[1, 0].item())
