"""Equal budgets: what is counted, and what is read where a budget ends, on made-up runs and by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.claims.budgets import (
    SHORTFALL,
    at_budget,
    generated,
    mean_spent,
    returned,
    seconds,
    spent,
    tokens,
    typical_spent,
)
from experiments.claims.claims import CLAIMS
from experiments.claims.recipe_contrasts import (
    CLOCK_SEEDS,
    CLOCKED,
    COMBINATIONS,
    MEMBERS,
    RECIPES,
    TIMED_AS,
    VANILLA,
    over,
    over_every,
)
from experiments.compute.setting import Setting
from optune.types import UserError

COSTS = st.lists(st.integers(1, 10_000), min_size=1, max_size=8)


def run(costs, values, rewards=None, **ledger) -> dict:
    """A raw result whose iterations cost `costs` tokens and have the given outcomes; `rewards`: on validation."""
    stages = [{"validate": {"reward_mean": reward}} if rewards else {} for reward in rewards or costs]
    return {
        "iterations": [
            {"iteration": t, "win_score": value, "gold_mean": value / 10, "stages": stages[t]}
            for t, value in enumerate(values)
        ],
        "timing": {"ledger": [{"iteration": t, "tokens": cost, **ledger} for t, cost in enumerate(costs)]},
    }


@given(COSTS, st.data())
def test_what_is_read_at_a_budget_lies_between_the_policies_around_it(costs, data):
    ends = np.cumsum(costs)
    values = np.array(data.draw(st.lists(st.floats(-50, 150), min_size=len(ends), max_size=len(ends))))
    budget = data.draw(st.integers(int(ends[0]), int(ends[-1])))
    found = at_budget(ends, values, budget)
    after = int(np.searchsorted(ends, budget))
    around = values[max(0, after - 1) : after + 1] if ends[after] != budget else values[after : after + 1]
    assert min(around) - 1e-9 <= found <= max(around) + 1e-9
    assert found == pytest.approx(np.interp(budget, ends, values))


@given(COSTS)
def test_a_budget_that_ends_with_an_iteration_reads_that_iteration_s_policy(costs):
    ends = np.cumsum(costs)
    values = np.arange(len(ends), dtype=float)
    assert [at_budget(ends, values, end) for end in ends] == values.tolist()


@given(COSTS, st.integers(1, 20))
def test_vectors_over_prompts_are_read_as_their_mean_is(costs, share):
    ends = np.cumsum(costs)
    values = np.random.default_rng(share).normal(size=(len(ends), 7))
    budget = ends[0] + (ends[-1] - ends[0]) * share / 20
    assert at_budget(ends, values, budget).mean() == pytest.approx(at_budget(ends, values.mean(axis=1), budget))


def test_nothing_is_read_beyond_what_was_measured():
    ends, values = np.array([100.0, 200.0]), np.array([1.0, 2.0])
    with pytest.raises(UserError, match="aop: its first iteration costs 100, more than the budget of 99"):
        at_budget(ends, values, 99, "aop")
    assert at_budget(ends, values, 200 / (1 - SHORTFALL) - 1) == 2.0  # almost: it counts as it ended
    with pytest.raises(UserError, match="give it more of them"):
        at_budget(ends, values, 200 / (1 - SHORTFALL) + 1)


def test_every_kind_of_token_and_second_counts_and_what_the_writer_reads_is_not_generated():
    kinds = {"tokens_reference": 10, "tokens_validation": 100, "tokens_writer_out": 1000, "tokens_writer_in": 10_000}
    result = run([1, 1], [0, 0], **kinds, generation_s=0.5, prompts_s=2.0)
    assert spent(result, tokens).tolist() == [11111, 22222]
    assert spent(result, generated).tolist() == [1111, 2222]
    assert spent(result, seconds).tolist() == [2.5, 5.0]
    assert spent(run([5, 5], [0, 0]), tokens).tolist() == [5, 10]
    assert mean_spent([run([1], [0], prompts_s=2.0), run([1], [0], prompts_s=4.0)], seconds).tolist() == [3.0]


def test_one_slow_moment_of_the_machine_does_not_count():
    slow, usual = run([0, 0], [0, 0], train_s=1.0), run([0, 0], [0, 0], train_s=1.0)
    slow["timing"]["ledger"][0]["train_s"] = 50.0
    assert typical_spent([slow, usual, usual], seconds).tolist() == [1.0, 2.0]


def test_a_recipe_with_validation_prompts_counts_with_its_best_policy_so_far():
    assert returned(run([1] * 4, [1, 2, 3, 4], [0.1, 0.5, 0.3, 0.6]), "win_score").tolist() == [1, 2, 2, 4]
    assert returned(run([1] * 4, [1, 2, 3, 4]), "win_score").tolist() == [1, 2, 3, 4]


# --- the comparison --------------------------------------------------------------------------------------------------


def evidence(score) -> dict:
    """Every member at 10 tokens and 3 seconds an iteration, but OPTune at 5 and 2; `score(name, t)`."""
    raw = {}
    for name, member in MEMBERS.items():
        tokens, seconds = (5, 2.0) if name == "optune" else (10, 3.0)
        length = 8
        raw[member.name] = [run([tokens] * length, [score(name, t) + k for t in range(length)]) for k in range(3)]
        raw[member.name] = raw[member.name] if name != "vanilla" else [_cut(r, 4) for r in raw[member.name]]
        raw[CLOCKED[name].name] = [run([0] * length, [0] * length, training_s=seconds)]
    raw[CLOCKED["vanilla"].name] = [_cut(r, 4) for r in raw[CLOCKED["vanilla"].name]]
    return raw


def _cut(result: dict, length: int) -> dict:
    return {
        "iterations": result["iterations"][:length],
        "timing": {"ledger": result["timing"]["ledger"][:length]},
    }


def test_at_equal_tokens_half_the_price_buys_twice_the_iterations():
    raw = evidence(lambda name, t: float(t))
    assert over(raw, "win_score", "optune", "vanilla", "tokens").tolist() == [4.0] * 3  # the 8th against the 4th
    assert over(raw, "win_score", "optune", "vanilla", "seconds").tolist() == [2.0] * 3  # 12 seconds: 6th against 4th
    assert over(raw, "win_score", "aop", "vanilla", "tokens").tolist() == [0.0] * 3


def test_against_every_recipe_the_strongest_rival_counts():
    lift = {"rlhf_workflow": 9.0, "aop": 2.0}
    raw = evidence(lambda name, t: t + lift.get(name, 0.0))
    assert over_every(raw, "win_score", "optune", "tokens").tolist() == [-5.0] * 3


def test_what_is_timed_under_another_name_is_the_same_run():
    for name, timed in TIMED_AS.items():
        assert Setting("tiny").arm_config(MEMBERS[name], 0).model_dump() == {
            **Setting("tiny").arm_config(timed, 0).model_dump(),
            "recipe": name,
        }


def test_every_combination_has_a_parent_and_every_claim_its_arms_and_clock():
    assert all(parent in RECIPES for _, parent in COMBINATIONS.values())
    known = {member.name for member in MEMBERS.values()}
    claims = [claim for claim in CLAIMS if claim.family == "recipes"]
    assert len({claim.key for claim in claims}) == len(claims) == 14
    for claim in claims:
        assert set(claim.needs) <= known and VANILLA.name in claim.needs
        assert bool(claim.clocked) == claim.key.endswith("-seconds")


def test_runs_for_the_clock_are_of_a_few_seeds_and_come_by_themselves():
    for member in CLOCKED.values():
        assert member.for_the_clock and member.runs_on(range(10)) == list(CLOCK_SEEDS)
    assert MEMBERS["optune"].runs_on(range(10)) == list(range(10))
