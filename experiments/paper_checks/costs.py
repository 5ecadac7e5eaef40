"""What an iteration costs: Table 1, the speedups, and the responses sampled."""

from __future__ import annotations

from experiments.paper_checks import Finding, Paper, finding

ROUNDING = 0.005  # half a unit of the second decimal, in which speedups are given
# Operations per token and parameter: 2 forward, 6 forward and backward. Training is counted as dearly as the text
# allows (three epochs, activations computed again, reference log-probabilities once): the least is asked of rewarding.
REWARD_OPERATIONS = 2
TRAINING_OPERATIONS = 3 * (6 + 2) + 2


def table1_shares_sum(paper: Paper) -> Finding:
    """The sum of Table 1's shares."""
    total = sum(paper["table1"]["shares"].values())
    return finding(
        "Table 1",
        "100%",
        f"{total:.1f}%",
        abs(total - 100) < 0.05,
        holds="The three steps make up the whole iteration.",
        fails="The shares leave time unaccounted for, or count some twice.",
    )


def rewarding_share(paper: Paper) -> Finding:
    """The share of rewarding that operation counts lead one to expect beside the share of training."""
    shares = paper["table1"]["shares"]
    least = shares["training"] * REWARD_OPERATIONS / TRAINING_OPERATIONS
    return finding(
        "Table 1, Section 4.1",
        f"{shares['rewarding']}%",
        f"at least {least:.1f}%",
        shares["rewarding"] + 0.05 >= least,
        holds="The reward model's share is what a model of the policy's size needs.",
        fails="A reward model of the policy's size reads the same responses that training reads, so one forward pass "
        "cannot be hundreds of times cheaper than the training step, unless something unreported makes it so.",
        otherwise="unsupported",
    )


def speedup_quoted_alike(paper: Paper) -> Finding:
    """The speedups wherever the text gives them."""
    quoted = paper["claims"]["speedup"]
    low, high = ({pair[i] for pair in quoted.values()} - {None} for i in (0, 1))
    return finding(
        "Abstract, Sections 1, 4.2 and 6",
        f"{len(quoted)} places",
        f"{_listed(low)} to {_listed(high)}",
        len(low) == len(high) == 1,
        holds="The same figures stand everywhere.",
        fails="The figures differ from place to place.",
    )


def speedup_from_table1(paper: Paper) -> Finding:
    """1 / (1 - g (1 - ratio)) with g the share of generation in Table 1, without iteration 0."""
    claimed = [_claimed(paper)[ratio] for ratio in _ratios(paper)]
    speedups = [_speedup(paper, ratio, online_share=1.0) for ratio in _ratios(paper)]
    return finding(
        "Abstract, Sections 4.2 and 6; Table 1",
        _range(claimed),
        _range(speedups),
        _equal(claimed, speedups),
        holds="Arithmetic on Table 1 gives both digits, so the speedup is that of an iteration after iteration 0, and "
        "need not have been timed; the training step itself gets no faster, as it trains on every pair.",
        fails="The speedups do not follow from Table 1.",
    )


def speedup_of_a_whole_run(paper: Paper) -> Finding:
    """The same with iteration 0, which every arm makes at ratio 1."""
    claimed = [_claimed(paper)[ratio] for ratio in _ratios(paper)]
    speedups = [_speedup(paper, ratio, online_share=_selective_share(paper)) for ratio in _ratios(paper)]
    return finding(
        "Abstract, Sections 4.1, 4.2 and 6; Table 1",
        _range(claimed),
        _range(speedups),
        _equal(claimed, speedups),
        holds="The speedups count iteration 0.",
        fails="Whoever runs all four iterations gains less than is claimed: the first one costs the same in every arm.",
        otherwise="unsupported",
    )


def generation_saving(paper: Paper) -> Finding:
    """1 - ratio at the ratios that the savings are claimed for, and 1 / ratio."""
    saved = [1 - ratio for ratio in _ratios(paper)]
    factor = 1 / min(_ratios(paper))
    claimed, most = paper["claims"]["generation_saving"], paper["claims"]["generation_factor"]
    agrees = _equal(claimed, saved) and abs(factor - most) < ROUNDING
    return finding(
        "Figure 3, Sections 4.2 and 6",
        f"{_percent(claimed)} saved, up to {most:g}x",
        f"{_percent(saved)} saved, up to {factor:.2f}x",
        agrees,
        holds="Both figures restate the ratios 0.7 and 0.5, for an iteration after iteration 0: '30-50% generation "
        "efficiency' is the share not generated.",
        fails="The savings are not those of the ratios.",
    )


def generation_saving_of_a_whole_run(paper: Paper) -> Finding:
    """Responses sampled in a whole run, iteration 0 included, at ratio 1 and at the ratios claimed."""
    claimed = paper["claims"]["generation_saving"]
    full, *reduced = (_responses(paper, ratio) for ratio in (1.0, *_ratios(paper)))
    saved = [1 - responses / full for responses in reduced]
    told = ", ".join(f"{n:,.0f}" for n in (full, *reduced))
    return finding(
        "Sections 4.1, 4.2 and 6",
        f"{_percent(claimed)} saved, up to {paper['claims']['generation_factor']:g}x",
        f"{_percent(saved)} saved, up to {full / min(reduced):.2f}x ({told} responses)",
        _equal(claimed, saved),
        holds="The savings count iteration 0.",
        fails="Over a whole run, with the iteration 0 that all arms share, the saving in responses is three quarters "
        "of the one claimed.",
        otherwise="unsupported",
    )


def gpu_hours(paper: Paper) -> Finding:
    """By how much GPU hours saved exceed hours saved."""
    gpus, claimed = paper["setup"]["gpus"], paper["claims"]["gpu_hours_factor"]
    return finding(
        "Section 4.2",
        f"{claimed}x",
        f"{gpus}x",
        gpus == claimed,
        holds="Hours saved on 8 GPUs are 8 times as many GPU hours; the saving relative to the whole stays the same.",
        fails="GPU hours do not grow by the number of GPUs.",
    )


def batches_per_iteration(paper: Paper) -> Finding:
    """Prompts of an iteration divided by the batch size."""
    setup = paper["setup"]
    steps, rest = divmod(setup["prompts"], setup["batch_size"])
    iterations = setup["iterations"] + setup["shared_iterations"]
    return finding(
        "Section 4.1, Appendix C",
        f"{setup['prompts']:,} prompts, batches of {setup['batch_size']}",
        f"{steps} steps, {rest} prompts left over; {setup['prompts'] / setup['prompt_pool']:.0%} of the pool",
        rest == 0,
        holds=f"An epoch is a whole number of batches, {iterations * steps:,} steps in {iterations} iterations at "
        "every ratio: selection saves no training step.",
        fails="The prompts do not fill their batches.",
    )


def _ratios(paper: Paper) -> list[float]:
    return paper["claims"]["speedup_ratios"]


def _claimed(paper: Paper) -> dict[float, float]:
    """The abstract's speedup by ratio."""
    return dict(zip(_ratios(paper), paper["claims"]["speedup"]["abstract"], strict=True))


def _selective_share(paper: Paper) -> float:
    """Iterations that select, as a share of all."""
    setup = paper["setup"]
    return setup["iterations"] / (setup["iterations"] + setup["shared_iterations"])


def _speedup(paper: Paper, ratio: float, online_share: float) -> float:
    generation = paper["table1"]["shares"]["generation"] / 100
    return 1 / (1 - online_share * generation * (1 - ratio))


def _responses(paper: Paper, ratio: float) -> float:
    setup = paper["setup"]
    passes = setup["shared_iterations"] + setup["iterations"] * ratio
    return setup["prompts"] * setup["responses_per_prompt"] * passes


def _equal(claimed: list[float], recomputed: list[float]) -> bool:
    return all(abs(a - b) <= ROUNDING for a, b in zip(claimed, recomputed, strict=True))


def _range(speedups: list[float]) -> str:
    return f"{min(speedups):.2f}-{max(speedups):.2f}x"


def _percent(shares: list[float]) -> str:
    return f"{100 * min(shares):.3g}-{100 * max(shares):.3g}%"


def _listed(values: set[float]) -> str:
    return " or ".join(f"{value:.2f}" for value in sorted(values))


CHECKS = (
    table1_shares_sum,
    rewarding_share,
    speedup_quoted_alike,
    speedup_from_table1,
    speedup_of_a_whole_run,
    generation_saving,
    generation_saving_of_a_whole_run,
    gpu_hours,
    batches_per_iteration,
)
