"""Bad configuration gets one sentence that names the field; presets and overrides combine as documented."""

from __future__ import annotations

import pytest

from optune.__main__ import main
from optune.config import PRESETS, RunConfig, differences, load_config
from optune.types import UserError


@pytest.mark.parametrize("preset", sorted(p.stem for p in PRESETS.glob("*.yaml")))
def test_every_preset_is_valid_and_says_where_to_evaluate(preset):
    config = load_config(preset)
    assert config.iterations >= 1 and config.evaluation.baseline


def test_the_paper_preset_has_the_papers_stated_values():
    config = load_config("paper")
    assert config.training.learning_rate == 5e-7 and config.training.optimizer == "rmsprop"
    assert config.training.warmup_ratio == 0.1 and config.training.batch_size == 128
    assert (config.generation.n, config.generation.temperature, config.generation.top_p) == (2, 1.0, 0.9)
    assert config.generation.max_new_tokens == config.prompts.max_tokens == 512
    assert config.iterations == 3 and config.prompts.limit == 48_000
    assert config.policy.model == "alignment-handbook/zephyr-7b-sft-full"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("selection.ration=0.4", "selection.ration is not an option; did you mean selection.ratio?"),
        ("selecton.ratio=0.4", "selecton is not an option; did you mean selection?"),
        ("selection.ratio=0", r"ratio must lie in \(0, 1\], not 0.0"),
        ("selection.ratio=1.2", r"ratio must lie in \(0, 1\], not 1.2"),
        ("selection.ratio=half", "selection.ratio: .*number.* \\(given: 'half'\\)"),
        ("selection.strategy=all", "strategy 'all' regenerates every prompt; set ratio to 1"),
        ("training.micro_batch_size=7", "must be a multiple of micro_batch_size 7"),
        ("training.reference=start", "training.reference: .*iteration_start.* \\(given: 'start'\\)"),
        ("loss.beta_2=-1", "beta_2 must be at least 0"),
        ("loss.beta_2=.inf", "loss.beta_2: .*finite"),
        ("loss={beta_2: 0.5, beta_2_factor: 4}", "beta_2_factor multiplies beta_2 auto"),
        ("loss.beta_1=.nan", "loss.beta_1: .*finite"),
        ("generation.n=1", "generation.n must be at least 2"),
        ("reward={kind: sequence_classifier}", "needs a model"),
        ("generation.top_p=2", "generation.top_p"),
        ("iterations=-1", "iterations"),
        ("selection.ratio", "write it as name=value"),
        ("seed=[", "not a value that YAML can read"),
    ],
)
def test_a_bad_override_is_named(override, sentence):
    with pytest.raises(UserError, match=sentence):
        load_config("nano", overrides=[override])


def test_overrides_come_after_the_file_and_the_file_after_its_preset(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("preset: nano\nselection: {ratio: 0.3}\nseed: 5\n")
    config = load_config(file=path, overrides=["seed=6"])
    assert (config.preset, config.seed, config.selection.ratio) == ("nano", 6, 0.3)
    assert config.selection.strategy == load_config("nano").selection.strategy


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("- a\n- b\n", "a configuration is a mapping"),
        ("a: [\n", "not valid YAML"),
        ("preset: huge\n", "Unknown preset 'huge'"),
        ("seed: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("seed: 1\n", "policy: Field required"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, sentence):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=sentence):
        load_config(file=path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no such configuration file"):
        load_config(file=tmp_path / "none.yaml")


def test_differences_name_the_fields():
    old = load_config("nano").model_dump()
    new = load_config("nano", overrides=["loss.name=dpo", "seed=3"]).model_dump()
    assert differences(old, new) == ["loss.name: 'wdpo' -> 'dpo'", "seed: 0 -> 3"]


def test_a_configuration_cannot_be_changed_in_place():
    config = load_config("nano")
    with pytest.raises(ValueError):
        config.seed = 3
    assert isinstance(config, RunConfig)


def test_the_command_line_tells_bad_input_in_one_line(capsys):
    assert main(["run", "--preset", "nano", "loss.beta2=1"]) == 2
    error = capsys.readouterr().err
    assert error == "error: nano: loss.beta2 is not an option; did you mean loss.beta_2?\n"


def test_keep_all_is_the_default_spelt_out():
    plain, spelt = load_config("nano"), load_config("nano", overrides=["keep=all"])
    assert spelt == plain and spelt.model_dump() == plain.model_dump() and "keep" not in plain.model_dump()
    assert load_config("nano", overrides=["keep=last"]).keep == "last"
    with pytest.raises(UserError, match="keep"):
        load_config("nano", overrides=["keep=first"])


def test_a_persons_configuration_trains_in_micro_batches_of_like_lengths_and_older_presets_as_they_did(tmp_path):
    (tmp_path / "mine.yaml").write_text("policy: {model: a}\nreward: {kind: gold}\nprompts: {path: b}\n")
    assert load_config(file=tmp_path / "mine.yaml").training.batching == "length_grouped"
    for recorded in ("nano", "tiny"):
        assert load_config(recorded).training.batching is None
        assert "batching" not in load_config(recorded).model_dump()["training"]


def test_a_section_without_any_line_is_absent_and_a_needed_one_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "policy: {model: a}\nreward: {model: b}\nprompts: {path: p}\ntraining:\n  # learning_rate: 1\nloss: ~\n"
    )
    plain = tmp_path / "plain.yaml"
    plain.write_text("policy: {model: a}\nreward: {model: b}\nprompts: {path: p}\n")
    assert load_config(file=path) == load_config(file=plain)
    path.write_text("policy:\nreward: {model: b}\nprompts: {path: p}\n")
    with pytest.raises(UserError, match="policy"):
        load_config(file=path)


@pytest.mark.parametrize("override", ["pairs.keep=0.25", "generation.sampler=null", "pairs.without_words=null"])
def test_an_override_stays_in_its_own_configuration(override):
    before = load_config("paper", recipe="rlhf_workflow")
    load_config("paper", overrides=[override])
    load_config(overrides=[override, "policy.model=m", "reward.model=r", "prompts.path=p.jsonl", "prompts.limit=8"])
    assert load_config("paper", recipe="rlhf_workflow") == before
