"""The replication report: `make report` writes results/<preset>/REPORT.md and one self-contained report.html.

Everything in it comes from committed files: raw results (judged by `claims.py`), the figures' data, the published
numbers and `make check-paper`. The words about a figure are the docstring of its script; the others are in `words/`.
"""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments import documents
from experiments.claims import real_model
from experiments.claims.budgets import seconds as seconds_of_entry
from experiments.claims.claims import REAL_ONLY
from experiments.claims.registry import claims_of
from experiments.claims.rules import OUTCOMES, Claim
from experiments.claims.verdicts import PREVIEW, judge_claims
from experiments.compute.arms import INSTRUCTIONS_BUILD_OF_SEED, REPORT_SEEDS, Arm
from experiments.compute.last_digits import write_if_new
from experiments.compute.machine import machine_text
from experiments.compute.raw_result import Raw
from experiments.compute.results import RESULTS, ROOT, builds, read_raw
from experiments.development import gate_figure, reward_models
from experiments.figures.figure import interval, signed
from experiments.figures.registry import FIGURES, NEIGHBOURS, REAL_MODEL, SENSITIVITY, figure_of
from experiments.report import afterwards, beside_score, economy, random_answers, readme_tables, sensitivity
from experiments.report.afterwards import beside_baseline, reason, shown_verdict
from experiments.report.numbers import filled
from experiments.report.page import contents, page
from optune.utils.files import read_json, write_text

FAMILIES = (  # of claims beside the paper's own, with the file of our words on them
    ("worlds", "When does selection by low reward pay?", ""),
    ("beyond", "Beyond the paper", ""),
    ("recipes", "The neighbouring recipes at equal budget: which one to use when", "which_recipe.md"),
    ("rlhf_workflow", "RLHF Workflow's own claims", "rlhf_workflow.md"),
)

DISCLOSED = {"tiny": "disclosure.md", real_model.PRESET: "real_model_disclosure.md"}
BY_FIGURE = "Figure by figure"  # the section whose parts the contents list, too
NO_MARGIN = "no margin, since ratio 1 has no lead over never regenerating on development seeds"
WORDS = Path(__file__).with_name("words")  # what is written by hand

OUTCOME_NAMES = {
    "win_score": "win score",
    "gold_mean": "gold",
    "length_controlled_winrate": "LC win rate",
    "seconds": "measured minus claimed speedup",
    "share": "share of time minus 0.5",
    "shared_sample": "reward, ranked by the same sample",
    "independent_sample": "reward, ranked by an independent sample",
}


def report(preset: str) -> None:
    """Judge the claims, and write verdicts.json, REPORT.md, report.html, and the tables of README and docs."""
    verdicts = judged(preset)
    folder = RESULTS / preset
    if preset == real_model.PRESET and (folder / "development.json").exists():
        gate_figure.draw(preset)
    write_if_new(folder / "verdicts.json", {"command": f"make report PRESET={preset}", "claims": verdicts})
    text = markdown(preset, verdicts)
    write_text(folder / "REPORT.md", text)
    write_text(folder / "report.html", page(text, f"OPTune: replication report, preset {preset}", folder))
    documents.update(tables(preset, verdicts, folder))
    for row in verdicts:
        print(f"  {row['claim']:32s} {row['verdict']}")
    print(f"Wrote results/{preset}/REPORT.md, report.html and verdicts.json")


def tables(preset: str, verdicts: Sequence[dict[str, Any]], folder: Path) -> dict[str, str]:
    """The tables of README and docs/results.md by their names: tiny's, the recipes' only where they have been compared,
    and the real model's, if its development seeds have been run. Other presets have none.
    """
    development = folder / "development.json"
    if preset == real_model.PRESET and development.exists():
        findings = readme_tables.real_findings(verdicts, real_model.CLAIMS)
        return {"real model": readme_tables.real_model(read_json(development)), "real findings": findings}
    if preset != "tiny":
        return {}
    compared = folder / "compare-recipes.json"
    written = {"summary": readme_tables.summary(verdicts), "results": readme_tables.results(verdicts)}
    return written | ({"recipes": readme_tables.recipes(read_json(compared))} if compared.exists() else {})


def judged(preset: str, base: Path = RESULTS) -> list[dict[str, Any]]:
    """A row for every claim whose results are there, of two seeds at least: one has no interval."""
    known = {arm.name: arm for name in FIGURES for arm in figure_of(name).arms}
    there = {name for name in known if (base / preset / "raw" / name).is_dir()}
    claims = [claim for claim in claims_of(preset) if {*claim.needs, *claim.clocked} <= there]
    evidence = {claim.key: _evidence(base, preset, claim, known) for claim in claims}
    claims = [claim for claim in claims if min(map(len, evidence[claim.key].values())) > 1]
    if not claims or not (base / preset / "development.json").exists():
        return []  # real models have no development builds and no gold: their figures stand without verdicts
    development = read_json(base / preset / "development.json")
    gain = {measure: development[measure]["gain"] for measure in ("win_score", "gold_mean")}  # smollm2: the lead
    return judge_claims(claims, evidence, gain)


def _evidence(base: Path, preset: str, claim: Claim, known: dict[str, Arm]) -> Raw:
    """The raw results that a claim reads; those for the clock may be of fewer seeds."""
    raw: Raw = {}
    for names in (claim.needs, claim.clocked):
        if names:
            raw |= read_raw(base, preset, [known[name] for name in names], REPORT_SEEDS)
    return raw


# --- the text --------------------------------------------------------------------------------------------------------


def markdown(preset: str, verdicts: Sequence[dict[str, Any]]) -> str:
    """The report, with a list of its contents before the first section."""
    text = "\n".join(_report(preset, verdicts))
    summary, mark, sections = text.partition("\n## ")
    return f"{summary}\n{contents(text, BY_FIGURE)}{mark}{sections}"


def _report(preset: str, verdicts: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Line by line."""
    yield f"# OPTune: replication report, preset `{preset}`\n"
    if preset == real_model.PRESET:
        yield from _of_the_real_model(preset, verdicts)
        return
    if verdicts:
        yield from _summary(verdicts)
        yield "## Verdicts on the paper's claims\n"
        yield from _verdict_table([row for row in verdicts if row["family"] == "paper"], preset)
        yield from _real_only()
        yield from _how_to_read(preset, verdicts)
        yield from afterwards.section(preset, verdicts) if preset == "tiny" else ()
    else:
        yield "No verdicts: they need results, and the margins and gold quality of a sandbox (`make develop`).\n"
    for family, title, words in FAMILIES:
        rows = [row for row in verdicts if row["family"] == family]
        if rows:
            yield f"## {title}\n"
            yield from _verdict_table(rows, preset)
            yield from _advice(preset, words, verdicts) if words else ()
    yield from _advice(preset, "recommendation.md", verdicts)
    yield from sensitivity.section(preset)
    if preset == "tiny":
        yield "## What this can say, and what it cannot\n"
        yield filled(_prose("what_it_can_say.md"), verdicts, preset)
    yield from _unsettled(preset, verdicts)
    yield from _paper_checks()
    yield f"## {BY_FIGURE}\n"
    for name in FIGURES:
        yield from _section(preset, name, [row for row in verdicts if row["figure"] == name])
    yield from _provenance(preset)


def _of_the_real_model(preset: str, verdicts: Sequence[dict[str, Any]]) -> Iterable[str]:
    """The gate, the claims where arms have met, what such a world can say, and answers drawn at random."""
    yield from _gate(preset)
    yield from _reward_models(preset)
    if verdicts:
        yield "## Verdicts on the real language model\n"
        yield from _verdict_table(verdicts, preset)
        yield f"{_prose('how_to_read.md').strip()} Holm's p counts every claim of this table; the intervals do not.\n"
        yield from beside_score.section(preset, RESULTS)
        yield from _same_rules(preset)
    yield from economy.section(preset)
    yield "## What this can say, and what it cannot\n"
    yield _prose("real_model_can_say.md")
    yield from economy.predicted(preset)
    yield from random_answers.section(preset)
    yield from _unsettled(preset, verdicts)
    yield f"## {BY_FIGURE}\n"
    for name in REAL_MODEL:
        yield from _section(preset, name, [row for row in verdicts if row["figure"] == name])
    yield from _provenance(preset)


def _gate(preset: str) -> Iterable[str]:
    """Ratio 1's lead over `none` on development seeds, from which gate and parity margin follow."""
    path = RESULTS / preset / "development.json"
    yield "## The gate: do fresh samples matter here?\n"
    if not path.exists():
        yield f"Not computed yet: `make develop PRESET={preset}`.\n"
        return
    development = read_json(path)
    leads = []
    for measure in OUTCOMES:
        lead = development[measure]
        told = f"{lead['gain']:+.2f} [{lead['low']:+.2f}, {lead['high']:+.2f}]"
        leads.append(f"{told} of {OUTCOME_NAMES[measure]}")
    seeds = len(development["seeds"])
    yield f"Ratio 1's lead over never regenerating (`none`) after the last iteration, plain DPO, {seeds} development"
    yield f"seeds, validation prompts, 95% t intervals: {' and '.join(leads)}."
    yield f"The gate, both intervals above 0, is **{'open' if development['gate_open'] else 'closed'}**.\n"
    yield f"![{gate_figure.TITLE}](../../figures/{preset}/{gate_figure.NAME}.png)\n"
    yield readme_tables.real_model(development) + "\n"


def _reward_models(preset: str) -> Iterable[str]:
    """How well each build's reward model agrees with gold, where that has been measured."""
    path = RESULTS / preset / reward_models.FILE
    if path.exists():
        measured = read_json(path)
        yield "## The reward models\n"
        yield "Agreement with gold: the share of pairs of the start policy's answers to a prompt that a reward model"
        yield f"orders as gold does; {reward_models.PROMPTS} validation prompts, on topics that it never saw [95%"
        yield "Wilson interval, as if pairs of one prompt were independent]. Rank correlation: of each prompt's mean"
        yield f"reward with its mean gold. Command: `{measured['command']}`. A whole build also samples and grades"
        yield "its answers: 16 minutes on both cores of an Intel machine, 33 to 41 on the AMD one with the baseline's"
        yield "training beside it.\n"
        yield from reward_models.lines(measured["reward_models"])
        yield ""


def _advice(preset: str, file: str, verdicts: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Our own words on what was found, with the verdicts' numbers filled in; they are about the tiny world."""
    yield filled(_prose(file), verdicts, preset) if preset == "tiny" else "No recommendation yet.\n"


def _prose(file: str) -> str:
    return (WORDS / file).read_text("utf-8")


def _static_share(verdicts: Sequence[dict[str, Any]]) -> str:
    """How little regenerating gains here, from the gates of the parity claims."""
    rows = {row["claim"]: row["outcomes"]["win_score"] for row in verdicts if "win_score" in row["outcomes"]}
    told = [
        f"{rows[key]['gate']['estimate']:.2f} points ({loss})"
        for key, loss in (("fig3-parity-with-full", "wDPO"), ("fig4-parity-with-full", "DPO"))
        if key in rows
    ]
    if not told:
        return ""
    margin = rows["fig3-parity-with-full"]["margin"] if "fig3-parity-with-full" in rows else 0
    return (
        f"Regenerating everything gains {' and '.join(told)} of win score over regenerating nothing after "
        "iteration 0: little is at stake for selection in the main world. The parity margin fixed beforehand "
        f"({margin:.2f}) is larger, so by the same rule never regenerating is on a par with ratio 1, too. In the "
        "family mixes below more is at stake."
    )


def _summary(verdicts: Sequence[dict[str, Any]]) -> Iterable[str]:
    counts = Counter(row["verdict"] for row in verdicts if row["family"] == "paper")
    told = ", ".join(f"{number} {verdict}" for verdict, number in counts.most_common())
    yield f"Of {sum(counts.values())} contrasts on the paper's claims (one of them a control of ours): {told}."
    clock = [row["verdict"] for row in verdicts if reason(row)]
    if clock:
        yield f"{len(clock)} of them ({', '.join(dict.fromkeys(clock))}) are about the clock of other machines and are"
        yield "shown as *not testable here*; that was decided afterwards."
    yield ""
    static = _static_share(verdicts)
    if static:
        yield f"**Read this first.** {static}\n"


def _verdict_table(rows: Sequence[dict[str, Any]], preset: str) -> Iterable[str]:
    contrast = "contrast [95% t interval over seeds], Holm's p; smallest detectable effect"
    yield f"| claim | verdict | {contrast} | bootstrap | builds |"
    yield "|---|---|---|---|---|"
    for row in rows:
        tests = row["outcomes"].items()
        told = "<br>".join(f"{OUTCOME_NAMES.get(name, name.replace('_', ' '))}: {_test(test)}" for name, test in tests)
        checks = []
        for check in ("bootstrap", "builds"):
            checks.append("<br>".join(_limits(test[check]) + _mark(test, test[check]) for _, test in tests))
        beside = beside_baseline(row, preset)
        notes = [row["note"], _gate_note(tests), reason(row), beside and f"Added afterwards: {beside}."]
        note = "".join(f"<br>*{said}*" for said in notes if said)
        statement = f"{row['statement']}{note} (`{row['claim']}`)"
        yield f"| {statement} | **{shown_verdict(row)}** | {told} | {' | '.join(checks)} |"
    yield ""


def _how_to_read(preset: str, verdicts: Sequence[dict[str, Any]]) -> Iterable[str]:
    development = read_json(RESULTS / preset / "development.json")
    margins = {name: t["margin"] for row in verdicts for name, t in row["outcomes"].items() if name in OUTCOMES}
    told = " and ".join(
        f"{margins[name]:.2f} of {OUTCOME_NAMES[name]} (20% of ratio 1's gain on development seeds, "
        f"{development[name]['gain']:.2f} [{development[name]['low']:.2f}, {development[name]['high']:.2f}])"
        for name in margins
    )
    yield f"{_prose('how_to_read.md').strip()} Margins: {told}.\n"


def _test(test: dict[str, Any]) -> str:
    digits = 2 if abs(test["estimate"]) >= 1 else 3
    interval = f"{test['estimate']:+.{digits}f} [{test['low']:+.{digits}f}, {test['high']:+.{digits}f}]"
    p = "< 0.001" if test["p_holm"] < 0.001 else f"{test['p_holm']:.3f}"
    return f"{interval}, p {p}; {test['smallest_detectable']:.{digits}f}"


def _mark(test: dict[str, Any], limits: Sequence[float] | None) -> str:
    """A dagger if one of the two intervals excludes 0 and the other does not."""
    return " †" if limits and (test["low"] * test["high"] > 0) != (limits[0] * limits[1] > 0) else ""


def _gate_note(tests: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """What ratio 1 gains over never regenerating. Without such a gain, parity says little."""
    gates = [(name, test["gate"]) for name, test in tests if "gate" in test]
    if not gates:
        return ""
    gained = "; ".join(
        f"{OUTCOME_NAMES[name]} {gate['estimate']:+.2f} [{gate['low']:+.2f}, {gate['high']:+.2f}]"
        for name, gate in gates
    )
    weak = all(gate["within_margin"] for _, gate in gates)
    caution = " By the same test never regenerating is on a par as well, so parity says little." if weak else ""
    return f"Ratio 1 gains over never regenerating (`none`): {gained}.{caution}"


def _limits(limits: Sequence[float] | None) -> str:
    return "-" if limits is None else f"[{limits[0]:+.2f}, {limits[1]:+.2f}]"


def _real_only() -> Iterable[str]:
    yield "Claims that only real models, benchmarks and people can settle; stand-ins never yield a verdict on them:\n"
    for key, figure, statement in REAL_ONLY:
        yield f"- {statement} (`{key}`, {figure}): **not testable here**."
    yield ""


def _same_rules(preset: str) -> Iterable[str]:
    """The real model's rules for every strategy, `none` and random selection too."""
    development = read_json(RESULTS / preset / "development.json")
    margin = real_model.MARGIN_SHARE * development["win_score"]["gain"]
    raw = read_raw(RESULTS, preset, real_model.WDPO_ARMS, REPORT_SEEDS)
    yield "## The same rules for random selection and for never regenerating\n"
    par = f"within {margin:.2f} of ratio 1, uncorrected" if margin > 0 else NO_MARGIN
    yield f"Win score, wDPO, the last iteration [95% t interval]; on a par: {par}."
    yield "A dash stands where there is nothing to divide by or to compare with.\n"
    yield "| strategy | ratio | lead over none | share of ratio 1's lead | on a par with ratio 1 |"
    yield "|---|---|---|---|---|"
    for row in real_model.beside(raw, "win_score", margin):
        share = "-" if row["share"] is None else f"{row['share']:.0%}"
        on_a_par = "-" if margin <= 0 else "yes" if row["on_a_par"] else "no"
        lead = signed(interval(row["leads"]), 1)
        yield f"| {row['strategy']} | {row['ratio']} | {lead} | {share} | {on_a_par} |"
    yield ""


def _unsettled(preset: str, verdicts: Sequence[dict[str, Any]]) -> Iterable[str]:
    yield "## What this run could not settle\n"
    open_rows = [row for row in verdicts if row["verdict"] in ("inconclusive", "not testable here", PREVIEW)]
    for row in open_rows:
        by_outcome = "; ".join(
            f"{OUTCOME_NAMES.get(name, name)} says *{test['verdict']}*" for name, test in row["outcomes"].items()
        )
        if row["verdict"] == PREVIEW:
            by_outcome = f"{len(row['seeds'])} seeds are there"
        yield f"- {row['statement']} **{row['verdict']}**: {by_outcome}."
    judged = {row["claim"] for row in verdicts}
    expected = claims_of(preset) if verdicts or preset == real_model.PRESET else ()
    waiting = [claim for claim in expected if claim.key not in judged]
    missing = "**Not computed yet, or with one seed only, which has no interval.**"
    yield from (f"- {claim.statement} (`{claim.key}`) {missing}" for claim in waiting)
    yield "" if open_rows or waiting else "Nothing: every claim has a verdict.\n"


def _paper_checks() -> Iterable[str]:
    path = RESULTS / "published" / "check.json"
    checks = read_json(path)["checks"]
    wrong = [check for check in checks if check["verdict"] == "inconsistent"]
    yield "## What does not add up in the paper\n"
    yield f"{len(wrong)} of {len(checks)} checks on its own numbers and formulas fail (`make check-paper`):\n"
    yield "| where | published | recomputed | what it means |"
    yield "|---|---|---|---|"
    for check in wrong:
        cells = (check["source"], check["published"], check["recomputed"], check["meaning"])
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _section(preset: str, name: str, rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    figure = figure_of(name)
    path = RESULTS / preset / f"{name}.json"
    kind = f"Figure {name[3:]}" if name.startswith("fig") else f"Table {name[5:]}" if name.startswith("table") else ""
    yield f"### {kind + ': ' if kind else ''}{figure.title}\n"
    yield _words(name) + "\n"
    for row in rows:
        yield f"- `{row['claim']}`: **{shown_verdict(row)}**"
    yield ""
    if not path.exists():
        yield f"Not computed yet: `make {name} PRESET={preset}`.\n"
        return
    picture = ROOT / "figures" / preset / f"{name}.png"
    if figure.draw and picture.exists():
        yield f"![{figure.title}](../../figures/{preset}/{name}.png)\n"
    yield "```\n" + "\n".join(figure.lines(read_json(path))) + "\n```\n"
    yield f"Command: `make {name} PRESET={preset}`; data: `results/{preset}/{name}.json`.\n"


def _words(name: str) -> str:
    """What the script says of its figure: its docstring, without the first line's number."""
    module = importlib.import_module(FIGURES[name].partition(":")[0])
    return inspect.cleandoc(module.__doc__ or "")


def _provenance(preset: str) -> Iterable[str]:
    yield "## How this was made\n"
    if preset in DISCLOSED:
        yield _prose(DISCLOSED[preset])
    raw = [read_json(path) for path in sorted((RESULTS / preset / "raw").glob("*/seed*.json"))]
    seconds = sum(seconds_of_entry(entry) for result in raw for entry in result["timing"]["ledger"])
    packages = Counter(_versions(result["packages"]) for result in raw)
    yield f"- {len(raw)} raw results (`results/{preset}/raw`), seeds {sorted({r['seed'] for r in raw})}, builds "
    yield f"  {sorted({r['build'] for r in raw if r['build'] is not None})}."
    yield f"- Generation, rewarding and training: {seconds / 3600:.1f} hours of one core, a stage counted for every arm"
    yield "  that shares it. Not counted: the worlds' models, answers, judging and other measures."
    yield from _machines(preset, raw)
    yield f"- Versions: {'; '.join(packages)}."
    sandbox = next((r["sandbox"] for r in raw if r["sandbox"]), None)
    if sandbox:
        yield f"- Sandbox version {sandbox['version']}, content hash `{sandbox['hash']}`; judge `{sandbox['judge']}`."
    names, seeds = ["paper", "beyond", *SENSITIVITY, *NEIGHBOURS], REPORT_SEEDS
    if preset == real_model.PRESET:
        names, seeds = [*REAL_MODEL], INSTRUCTIONS_BUILD_OF_SEED
    yield "- Everything again (each arm on those of the seeds that it has here):"
    yield f'  `make {" ".join([*names, "report"])} PRESET={preset} SEEDS="{" ".join(map(str, seeds))}"`.\n'


def _versions(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _machines(preset: str, raw: Sequence[Raw]) -> Iterable[str]:
    """The machines that the results name, and whether there must have been more than one."""
    told = Counter(machine_text(one["timing"]["machine"]) for one in raw)
    yield f"- Machines: {'; '.join(f'{name} ({number} results)' for name, number in told.items())}."
    unnamed = sum("vectors" not in one["timing"]["machine"] for one in raw)
    if unnamed:
        yield f"  {unnamed} of {len(raw)} are older than the record of processors: they name an architecture at most."
    mixed = [of for _, of in builds(raw) if len(of) > 1]
    if mixed:
        across = [claim.key for claim in claims_of(preset) if any(_builds_of(claim, of) > 1 for of in mixed)]
        yield f"  There was more than one: seeds with results of more than one build of the same world: {len(mixed)}"
        yield f"  (`make audit`). Claims that compare arms of two builds: {', '.join(across) or 'none'}."


def _builds_of(claim: Claim, of: Sequence[Sequence[str]]) -> int:
    """The number of builds of one seed, each given by its arms, that a claim's arms belong to."""
    return sum(not set(arms).isdisjoint(claim.needs) for arms in of)
