"""Equations 2 to 6, Algorithm 1 and Figure 2, taken literally."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf, log, pi, sqrt
from typing import Any

from experiments.paper_checks import Finding, Paper, Verdict, finding
from optune.selection.strategies import selection_count

# A prompt with three possible responses, for formulas that hold for any.
REFERENCE = (0.5, 0.3, 0.2)
REWARDS = (1.0, -0.5, 2.0)
BETA = 0.1
PROMPTS, RATIO = 10, 0.5  # for Algorithm 1


def eq4_inverts_eq3(paper: Paper) -> Finding:
    """The reward that Eq. 4 reads back from the policy that Eq. 3 makes of it."""
    exponent = paper["equations"]["eq4_beta_exponent"]
    policy, z = _eq3(REFERENCE, REWARDS, BETA)
    read = [BETA**exponent * (log(z) + log(p / q)) for p, q in zip(policy, REFERENCE, strict=True)]
    return finding(
        "Equations 3 and 4",
        _factor(exponent),
        f"rewards {_listed(REWARDS)} come back as {_listed(read)} at beta = {BETA}",
        _close(read, REWARDS),
        holds="Eq. 4 is Eq. 3 solved for the reward.",
        fails="Solving Eq. 3 for the reward gives the factor beta_1, so Eq. 4's 1/beta_1 is a slip; read as beta_1.",
    )


def eq5_inverts_eq3(paper: Paper) -> Finding:
    """Eq. 5's margin between two responses under the policy of Eq. 3, beside their reward difference."""
    exponent = paper["equations"]["eq5_beta_exponent"]
    policy, _ = _eq3(REFERENCE, REWARDS, BETA)
    ratios = [log(p / q) for p, q in zip(policy, REFERENCE, strict=True)]
    margin, difference = BETA**exponent * (ratios[2] - ratios[0]), REWARDS[2] - REWARDS[0]
    return finding(
        "Equations 3 and 5",
        _factor(exponent),
        f"margin {margin:.3g}, reward difference {difference:.3g}",
        abs(margin - difference) < 1e-9,
        holds="Eq. 5 is the DPO loss that belongs to Eq. 3, whatever Eq. 4 says.",
        fails="Eq. 5's margin is not the reward difference of Eq. 3.",
    )


def anchor_of_the_penalty(paper: Paper) -> Finding:
    """Eq. 3 applied iteration after iteration, each to the policy before, as one step from the SFT policy."""
    equations, setup = paper["equations"], paper["setup"]
    steps = setup["iterations"] + setup["shared_iterations"]
    policy = REFERENCE
    for _ in range(steps):
        policy, _ = _eq3(policy, REWARDS, BETA)
    change = [log(p / q) for p, q in zip(policy, REFERENCE, strict=True)]
    strength = BETA * (change[2] - change[0]) / (REWARDS[2] - REWARDS[0])
    return finding(
        "Equations 2 and 4 to 6",
        f"anchor in Eq. 2: {equations['eq2_anchor']}; from Eq. 4 on: {equations['eq4_anchor']}",
        f"{steps} optimal iterations on one reward = one with beta_1 / {strength:.3g}",
        equations["eq2_anchor"] == equations["eq4_anchor"],
        holds="The penalty is on the distance from one policy throughout.",
        fails="Eq. 2 penalises the distance from the SFT policy, the losses that from the last iteration's: a design "
        "choice that the derivation from Eq. 2 does not cover, and with which the hold of the SFT policy weakens with "
        "every iteration.",
        otherwise="unsupported",
    )


def weight_range(paper: Paper) -> Finding:
    """The largest ratio of two pairs' weights under Eq. 6."""
    gap = paper["equations"]["eq6_smallest_reward_gap"]
    lowest = 1 / (1 + exp(-gap))
    emphasis = 1 / lowest if lowest > 0 else inf
    return finding(
        "Eq. 6, Sections 1 and 3.2",
        "learning concentrates on pairs with a large gap",
        f"weights from {lowest:.2g} to 1: at most {emphasis:.3g} to 1",
        emphasis > 2 + 1e-9,
        holds="A pair's weight can fall towards zero.",
        fails="A chosen response never has the lower reward, so a pair without any gap keeps half the weight of one "
        "with the largest; at beta_2 = 0 the loss is half of DPO's, and DPO's in the limit of a large beta_2, which "
        "the paper does not state.",
        otherwise="unsupported",
    )


def algorithm1_training_set(paper: Paper) -> Finding:
    """Prompts left to train on when lines 6-11 pop from the set that line 12 goes through."""
    lines = paper["equations"]["algorithm1"]
    depleted = lines["popped_from"] == lines["iterated_over"]
    sizes, n = [], PROMPTS
    for _ in range(3):
        n -= selection_count(RATIO, n) if depleted else 0
        sizes.append(n)
    return finding(
        "Algorithm 1, lines 7, 12, 20 and 21",
        f"all {PROMPTS} of {PROMPTS} prompts",
        f"{', '.join(map(str, sizes))} in three iterations at ratio {RATIO}, none at ratio 1"
        if depleted
        else f"{sizes[0]} in every iteration",
        sizes == [PROMPTS] * 3,
        holds="Every prompt stays in the training set.",
        fails="Read literally, the regenerated prompts drop out of the training set and of all later iterations, and "
        "ratio 1 trains on nothing; read as: select, then train on all.",
    )


def algorithm1_reused_responses(paper: Paper) -> Finding:
    """Whether the set that line 16 reads has been built by then."""
    lines = paper["equations"]["algorithm1"]
    read, built = lines["training_set_read"], lines["training_set_built"]
    return finding(
        "Algorithm 1, lines 1, 16 and 20",
        f"read in line {read}",
        f"{_initialised(lines)}; built in line {built}",
        built < read,
        holds="The set has been built when it is read.",
        fails="What an iteration's training set holds when it is read is not said, as its pairs come only later; read "
        "as that of the iteration before.",
        otherwise=_unless_initialised(lines),
    )


def algorithm1_first_iteration(paper: Paper) -> Finding:
    """Prompts that need earlier responses in the first iteration at ratio 0.5."""
    lines = paper["equations"]["algorithm1"]
    ratio = lines["first_iteration_ratio"] or RATIO
    missing = PROMPTS - selection_count(ratio, PROMPTS)
    return finding(
        "Algorithm 1, lines 1 and 16; Section 4.1",
        "previous responses for every prompt not selected",
        f"needed for {missing} of {PROMPTS} prompts at t = 0; {_initialised(lines)}",
        missing == 0,
        holds="The first iteration samples every prompt.",
        fails="The algorithm does not say which responses there are to reuse, and which rewards to rank by, at t = 0; "
        "Section 4.1 does: those of a shared iteration 0 at ratio 1.",
        otherwise=_unless_initialised(lines),
    )


def gains_and_regression(paper: Paper) -> Finding:
    """The share of noise in rewards that gives Figure 2's split although every prompt gains the same.

    Ranking by a reward and measuring the gain from that same reward shares its noise: if noise is a share k of the
    rewards' variance, the lower half gains d + k s sqrt(2 / pi) and the upper half d - k s sqrt(2 / pi), with d the
    common gain and s the standard deviation of rewards (normal).
    """
    top = next(half["top"] for half in paper["fig2"]["halves"] if half["top"] is not None) / 100
    noise = (1 - 2 * top) / sqrt(2 / pi)  # for a gain of one standard deviation
    return finding(
        "Figure 2, Section 3.1",
        f"{100 * top:.1f}% of the gain from the top half",
        f"so with equal gains if noise is {noise:.0%} of the variance at a gain of one standard deviation, "
        f"{noise / 2:.0%} at half of one",
        not 0 <= noise < 1,
        holds="Noise alone cannot give this split.",
        fails="Regression to the mean gives the same picture without any prompt having more to gain, so the figure "
        "needs a ranking by rewards that the gain is not measured from.",
        otherwise="unsupported",
    )


def _eq3(reference: tuple[float, ...], rewards: tuple[float, ...], beta: float) -> tuple[tuple[float, ...], float]:
    """The policy of Eq. 3 and its partition function."""
    weights = [q * exp(r / beta) for q, r in zip(reference, rewards, strict=True)]
    z = sum(weights)
    return tuple(w / z for w in weights), z


def _initialised(lines: Mapping[str, Any]) -> str:
    line = lines["sets_initialised"]
    return "initialised nowhere" if line is None else f"initialised in line {line}, with what is not said"


def _unless_initialised(lines: Mapping[str, Any]) -> Verdict:
    """A set read before it is built contradicts the algorithm, unless it was initialised."""
    return "inconsistent" if lines["sets_initialised"] is None else "unsupported"


def _factor(exponent: int) -> str:
    return {1: "factor beta_1", -1: "factor 1 / beta_1"}[exponent]


def _close(a, b) -> bool:
    return all(abs(x - y) < 1e-9 for x, y in zip(a, b, strict=True))


def _listed(values) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


CHECKS = (
    eq4_inverts_eq3,
    eq5_inverts_eq3,
    anchor_of_the_penalty,
    weight_range,
    algorithm1_training_set,
    algorithm1_reused_responses,
    algorithm1_first_iteration,
    gains_and_regression,
)
