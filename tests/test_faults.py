"""Faults of data, files and machine: nothing bad trains, nothing damaged or foreign is believed, stops are clean."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from fault_endpoint import FaultyTransport, completion

from optune import store as artefacts
from optune.__main__ import main
from optune.finished.audit import audit_run
from optune.store import hash_files, run_lock
from optune.types import Response, UserError
from optune.utils.command import Terminated, exit_status, gave_out, one_line
from optune.utils.files import read_json, write_json, write_text

ROOT = Path(__file__).resolve().parents[1]


def weights_below(folder: Path) -> list[Path]:
    return list(folder.rglob("*.safetensors"))


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# --- bad data never trains -------------------------------------------------------------------------------------------


def silent(model, prompts, settings, *, seed, iteration, on_progress=None) -> list[Response]:
    """An engine whose first two prompts get no tokens, the next two an end token alone, the rest words."""
    tokens = [(), (), (1,), (1,), *[(7, 8, 1), (9, 1)] * len(prompts)]
    return [
        Response(
            p.prompt_id,
            k,
            iteration,
            tokens[2 * i + k] if i > 1 else tokens[2 * i],
            "" if i < 2 else f"{i} {k}",
            "stop",
        )
        for i, p in enumerate(prompts)
        for k in range(settings.n)
    ]


def mute(model, prompts, settings, *, seed, iteration, on_progress=None) -> list[Response]:
    """An engine that answers nothing but end tokens."""
    return [Response(p.prompt_id, k, iteration, (1,), "", "stop") for p in prompts for k in range(settings.n)]


def half_mute(model, prompts, settings, *, seed, iteration, on_progress=None) -> list[Response]:
    """An engine whose first response to every fourth prompt is an end token alone."""
    return [
        Response(p.prompt_id, k, iteration, *(((1,), "") if i % 4 == k == 0 else ((7 + k, 1), f"{i} {k}")), "stop")
        for i, p in enumerate(prompts)
        for k in range(settings.n)
    ]


class Length:
    """A reward for any text: more words are better."""

    def __init__(self, settings):
        self.noise = settings.noise

    def score(self, prompts, responses, seed) -> list[float]:
        return [float(len(r.text.split())) + r.index / 2 for r in responses]


def exploding_gradient(*logps, beta, beta_2):
    """A loss that is finite, and a gradient that is not."""
    from optune.training.losses import wdpo_loss

    losses = wdpo_loss(*logps, beta=beta, beta_2=beta_2)
    losses.register_hook(lambda gradient: gradient * math.inf)
    return losses


def test_responses_without_words_are_counted_and_never_paired(config, tmp_path):
    from optune.loop.algorithm import run_optune

    run = config.with_overrides({"generation.engine": f"{__name__}:silent", "iterations": 0})
    result = run_optune(run, tmp_path)
    counts = {e["stage"]: e["counts"] for e in result.stages}
    assert counts["pairs"]["left_out"]["fewer_than_two_responses"] == 1
    assert counts["pairs"]["left_out"]["identical_responses"] == 1
    assert counts["pairs"]["pairs"] + sum(counts["pairs"]["left_out"].values()) == 64


def test_responses_of_special_tokens_alone_train_against_nothing_unless_a_preset_is_older(config, tmp_path):
    """A person's configuration leaves them out and counts them; recorded ones, and presets with results, stay."""
    from optune.config import load_config, parse_config
    from optune.loop.algorithm import run_optune

    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config.model_dump(exclude_none=True)))
    mine = load_config(file=tmp_path / "mine.yaml")
    assert mine.pairs.without_words == load_config("small").pairs.without_words == "left_out"
    assert load_config("paper").pairs.without_words == "left_out"
    for recorded in ("nano", "tiny"):
        told = load_config(recorded).model_dump()
        assert load_config(recorded).pairs.without_words is None and "without_words" not in told["pairs"]
        assert parse_config(told, "again") == load_config(recorded)
    changes = {"generation.engine": f"{__name__}:half_mute", "reward.kind": f"{__name__}:Length", "iterations": 0}
    result = run_optune(mine.with_overrides(changes), tmp_path / "run")
    counts = next(e["counts"] for e in result.stages if e["stage"] == "pairs")
    assert counts["left_out"] == {"without_words": 16} and counts["pairs"] == 48
    assert counts["responses_without_words"] == 16
    assert audit_run(tmp_path / "run").problems == []
    before = run_optune(config.with_overrides(changes), tmp_path / "before")
    assert next(e["counts"] for e in before.stages if e["stage"] == "pairs")["pairs"] == 64


@pytest.mark.parametrize("beta_2", ["auto", 1.0])
def test_no_pair_left_is_one_sentence_and_nothing_is_trained(config, tmp_path, beta_2):
    from optune.loop.algorithm import run_optune

    run = config.with_overrides({"generation.engine": f"{__name__}:mute", "loss.beta_2": beta_2})
    with pytest.raises(UserError, match=r"there are none|no pair is left"):
        run_optune(run, tmp_path)
    assert not weights_below(tmp_path)


def test_a_gradient_that_is_not_finite_stops_before_anything_is_saved(config, tmp_path):
    from optune.loop.algorithm import run_optune

    with pytest.raises(UserError, match="gradient is not finite"):
        run_optune(config.with_overrides({"loss.name": f"{__name__}:exploding_gradient"}), tmp_path)
    assert not weights_below(tmp_path)


def test_supervised_training_never_saves_weights_that_are_not_finite(random_llama, tmp_path):
    from transformers import AutoTokenizer

    from optune.training.sft import TrainingSettings, train_sft

    rows = [{"prompt": f"add one and {n}", "completion": "cat dog"} for n in ("two", "three", "four", "five")]
    settings = TrainingSettings(learning_rate=1e38, batch_size=1, num_train_epochs=3, held_out=0.25)
    with pytest.raises(UserError, match="not finite"):
        train_sft(random_llama, AutoTokenizer.from_pretrained(random_llama), rows, settings, tmp_path / "out")
    assert not weights_below(tmp_path)


def test_strange_prompts_are_trained_on_or_counted(config, tmp_path):
    """Null bytes and right-to-left marks are text; a megabyte is too long; a repeated text is one prompt."""
    from optune.loop.algorithm import run_optune

    texts = ["add one\0 and two", "\u202esort cat dog", "copy " * 200_000, "add one and two", "add one and two"]
    texts += [f"list {n} fruits" for n in ("two", "three", "four", "five")]
    path = jsonl(tmp_path / "strange.jsonl", [{"prompt": text} for text in texts])
    changes = {"prompts.path": str(path), "reward.kind": f"{__name__}:Length", "iterations": 0}
    result = run_optune(config.with_overrides(changes), tmp_path / "run")
    counts = {e["stage"]: e["counts"] for e in result.stages}
    assert counts["prompts"] == {"rows": 9, "repeated": 1, "offered": 8, "used": 7, "too_long": 1}
    assert counts["pairs"]["pairs"] + sum(counts["pairs"]["left_out"].values()) == 7
    assert audit_run(tmp_path / "run").problems == []


def test_a_sample_of_a_file_with_repeated_prompts_says_how_many_there_were(config, tmp_path):
    from optune.loop.algorithm import run_optune

    texts = [f"list {n} fruits" for n in ("two", "three", "four", "five")] * 2
    path = jsonl(tmp_path / "twice.jsonl", [{"prompt": text} for text in texts])
    changes = {"prompts.path": str(path), "prompts.limit": 3, "iterations": 0, "reward.kind": f"{__name__}:Length"}
    result = run_optune(config.with_overrides(changes), tmp_path / "run")
    assert result.stages[0]["counts"] == {"rows": 8, "repeated": 4, "offered": 3, "used": 3, "too_long": 0}
    assert audit_run(tmp_path / "run").problems == []
    record = Path(result.stages[0]["path"]) / "stage.json"
    counts = {"counts": result.stages[0]["counts"] | {"repeated": 6}}
    write_json(record, read_json(record) | counts)
    manifest = read_json(tmp_path / "run" / "manifest.json")
    manifest["stages"][0] |= counts
    write_json(tmp_path / "run" / "manifest.json", manifest)
    assert "iteration 0 prompts: it counts 3 prompts offered, and there are 2." in audit_run(tmp_path / "run").problems


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "a", "prompt_id": "\ud800"}, "row 1: the prompt_id holds a lone surrogate"),
        ({"prompt": "a", "category": "\ud800"}, "row 1: the category holds a lone surrogate"),
        ({"messages": [{"role": "\ud800", "content": "a"}, {"role": "user", "content": "a"}]}, "a role holds a lone"),
        ({"messages": "[" * 100_000}, "no JSON list"),
    ],
)
def test_text_that_no_file_can_hold_is_refused_by_row(tmp_path, row, sentence):
    from optune.prompts.files import load_prompts

    with pytest.raises(UserError, match=sentence):
        load_prompts(jsonl(tmp_path / "p.jsonl", [row]))


# --- what is damaged is found, named, and made again or refused ------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, config) -> tuple:
    from optune.loop.algorithm import run_optune

    short = config.with_overrides({"iterations": 0})
    run_dir = tmp_path_factory.mktemp("faults") / "run"
    run_optune(short, run_dir)
    return short, run_dir


DAMAGE = {
    "cut in half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "one bit": lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "name", ["prompts.parquet", "selected.json", "responses.parquet", "history.parquet", "pairs.parquet",
             "model.safetensors", "tokenizer.json", "kl/*/stage.json"]
)  # fmt: skip
def test_a_damaged_file_is_made_again_as_it_was(finished, name, damage, capsys):
    from optune.loop.algorithm import run_optune

    config, run_dir = finished
    (path,) = (run_dir / "stages").rglob(name) if "/" not in name else (run_dir / "stages").glob(name)
    before = hash_files(run_dir / "stages")
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    run_optune(config, run_dir)
    told = capsys.readouterr().err
    if name != "kl/*/stage.json" or damage != "one bit":  # there the last byte but one is a bracket, or white space
        assert str(path.parent) in told and "set aside" in told
    for aside in (run_dir / "stages").glob("*/*.damaged-*"):
        shutil.rmtree(aside)
    assert hash_files(run_dir / "stages") == before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"config": {}}', b'{"config": 7, "stages": 7}', b"\xff\xfe\x00", b"[" * 100_000]
)
def test_a_damaged_manifest_is_refused_by_name_and_left_as_it_is(finished, tmp_path, content):
    from optune.loop.algorithm import run_optune

    config, _ = finished
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json: (not valid JSON|damaged)"):
        run_optune(config, tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == content


def test_sandbox_models_that_are_no_longer_as_built_are_built_again(tmp_path, monkeypatch, capsys):
    from optune.sandbox.parts import models as sandbox_models

    def quickly(seed, folder, settings):
        write_text(folder / "policy" / "model.safetensors", "weights")
        return {"seed": seed}

    monkeypatch.setattr(sandbox_models, "_build", quickly)
    policy = sandbox_models.build(0, tmp_path).policy
    (policy / "model.safetensors").write_text("weightz")
    assert (sandbox_models.build(0, tmp_path).policy / "model.safetensors").read_text() == "weights"
    assert "set aside" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_checkpoint_cut_off_is_named(random_llama, tmp_path):
    from transformers import AutoModelForCausalLM

    from optune.utils.checkpoints import load_model

    shutil.copytree(random_llama, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    for keep in (0, 4, 1000, path.stat().st_size // 2):
        path.write_bytes((random_llama / "model.safetensors").read_bytes()[:keep])
        with pytest.raises(UserError, match=r"No model can be loaded from .*model"):
            load_model(AutoModelForCausalLM, tmp_path / "model")


JSON_OF_ANOTHER_KIND = ["", "{", "[]", "7", "null", "[" * 100_000, '{"model_type": 7}']


@pytest.mark.parametrize(
    "content", [*JSON_OF_ANOTHER_KIND[:-1], '{"eos_token_id": "</s>"}', '{"eos_token_id": [1, "x"]}']
)
def test_a_damaged_generation_config_is_named_and_not_passed_over(random_llama, tmp_path, content):
    """Passed over, it would take its end tokens along, and responses would end elsewhere."""
    from optune.utils.checkpoints import load_generation_config

    shutil.copytree(random_llama, tmp_path / "model")
    path = tmp_path / "model" / "generation_config.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"No generation config can be loaded from .*model"):
        load_generation_config(tmp_path / "model")
    path.unlink()
    assert load_generation_config(tmp_path / "model").eos_token_id == 1  # from the model's own config


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", JSON_OF_ANOTHER_KIND[:-1])
def test_a_checkpoint_whose_json_is_damaged_is_named(random_llama, tmp_path, name, content):
    from transformers import AutoModelForCausalLM

    from optune.utils.checkpoints import load_model, load_tokenizer

    shutil.copytree(random_llama, tmp_path / "model")
    (tmp_path / "model" / name).write_text(content)
    with pytest.raises(UserError, match=r"can be loaded from .*model"):
        if name == "config.json":
            load_model(AutoModelForCausalLM, tmp_path / "model")
        else:
            load_tokenizer(tmp_path / "model")


# --- nothing executable is loaded ------------------------------------------------------------------------------------


class Payload:
    """Unpickling it makes a file: what a foreign checkpoint could do instead of that."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    """A file that must not have appeared at the end of the test."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "adapter_model.bin"])
def test_a_pickle_in_the_place_of_weights_is_never_opened(random_llama, tmp_path, trap, name):
    from transformers import AutoModelForCausalLM

    from optune.utils.checkpoints import load_model

    folder = tmp_path / "foreign"
    shutil.copytree(random_llama, folder)
    (folder / "model.safetensors").unlink()
    if name.startswith("adapter"):
        (folder / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(random_llama)})
        )
    (folder / name).write_bytes(pickle.dumps({"weight": Payload(trap)}))
    with pytest.raises(UserError, match="No model can be loaded"):
        load_model(AutoModelForCausalLM, folder)


def test_code_inside_a_checkpoint_is_refused_unless_asked_for(random_llama, tmp_path, trap):
    from transformers import AutoModelForCausalLM

    from optune.utils.checkpoints import load_model, load_tokenizer

    folder = tmp_path / "coded"
    shutil.copytree(random_llama, folder)
    (folder / "evil.py").write_text(f"open({str(trap)!r}, 'w')\n")
    config = read_json(folder / "config.json") | {"model_type": "evil"}
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = read_json(folder / "tokenizer_config.json")
    tokenizer |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Slow", "evil.Fast"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match=r"No model can be loaded.*(trust_remote_code|custom code)"):
        load_model(AutoModelForCausalLM, folder)
    with pytest.raises(UserError, match="No tokenizer can be loaded"):
        load_tokenizer(folder)


def test_a_chat_template_cannot_reach_the_machine(random_llama, tmp_path, trap):
    from optune.utils.checkpoints import load_tokenizer

    tokenizer = load_tokenizer(random_llama)
    tokenizer.chat_template = f"{{{{ cycler.__init__.__globals__.os.system('touch {trap}') }}}}"
    with pytest.raises(Exception, match="unsafe"):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)


def test_a_folder_with_a_script_or_an_archive_is_no_prompt_set(tmp_path, trap):
    from optune.prompts.files import load_prompts

    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text(f"open({str(trap)!r}, 'w')\n")
    shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "set")
    for name in (tmp_path / "set", tmp_path / "set.zip", f"zip://set.py::{tmp_path}/set.zip"):
        with pytest.raises(UserError):
            load_prompts(name)


def test_no_module_of_ours_unpickles_or_runs_what_it_reads():
    forbidden = r"torch\.load\(|pickle\.load|joblib|allow_pickle|(?<![\w.])(eval|exec)\("
    forbidden += r"|yaml\.((unsafe|full)_load|(Unsafe|Full)?Loader)\b"
    forbidden += r"|\b(tarfile|unpack_archive|extractall)\b|resume_from_checkpoint"  # TRL's checkpoints hold pickles
    archives = []
    for package in ("optune", "eval", "experiments"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(forbidden, path.read_text()), path
            archives += [path.name] if "zipfile" in path.read_text() else []
    assert archives == ["fetch.py"]  # one member of a wheel whose hash is pinned: see test_packaged_models


# --- secrets ---------------------------------------------------------------------------------------------------------

SECRET = "sk-proj-0123456789-never-to-be-seen"


def test_a_key_is_nowhere_after_a_judged_run_that_failed_and_went_on(tmp_path, monkeypatch, capfd):
    """The endpoint quotes the key in every error; logs, verdicts, echoes and output are searched for it."""
    import httpx2

    from eval.judges import Judge
    from optune.chat.client import ChatSettings

    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    rows = [{"instruction": f"question {i}", "output": f"answer {i}"} for i in range(40)]
    endpoint = FaultyTransport(share=0.3)
    refused = httpx2.MockTransport(
        lambda r: httpx2.Response(401, json={"error": {"message": "x" * 270 + f"Incorrect key {SECRET}"}})
    )
    quoted = httpx2.MockTransport(
        lambda r: (
            httpx2.Response(500, json={"error": {"message": f"{r.headers['authorization']} {SECRET}"}})
            if b"question 7" in r.content
            else httpx2.Response(200, json=completion("8 9"))
        )
    )
    told = []
    for transport in (refused, quoted, endpoint):
        chat = ChatSettings("fake", backoff=0.01, max_backoff=0.02, max_attempts=3)
        told.append(exit_status(partial(_judge, rows, Judge(chat, {}, transport), tmp_path / "judged")))
    out, err = capfd.readouterr()
    assert told == [2, 0, 0] and "refuses the key in OPENAI_API_KEY" in err
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) >= 5
    for text in (out, err, *(p.read_text(errors="replace") for p in files)):
        assert SECRET not in text and SECRET[:20] not in text


def _judge(rows, judge, run_dir):
    from eval.win_score import win_score

    print(json.dumps(win_score(rows, rows[:], judge, run_dir, retry_unparsed=True)))


def test_a_key_inside_an_address_is_refused_without_being_told(capsys):
    from optune.chat.client import ChatSettings

    def command():
        ChatSettings("m", base_url=f"https://user:{SECRET}@example.org/v1")

    assert exit_status(command) == 2
    told = capsys.readouterr().err
    assert "must not hold a key or password" in told and SECRET not in told


@pytest.mark.parametrize("field", ["evaluation.judge.base_url", "generation.server.base_url"])
@pytest.mark.parametrize("address", [f"https://user:{SECRET}@example.org/v1", f"user:{SECRET}@[x/v1", [f"{SECRET}@x"]])
def test_a_key_inside_a_configured_address_is_refused_before_any_tracker_or_manifest_could_see_it(
    field, address, capsys
):
    from optune.config import load_config

    assert exit_status(lambda: load_config("nano", overrides=[f"{field}={json.dumps(address)}"]) and None) == 2
    told = capsys.readouterr().err
    assert field in told and SECRET not in told


def test_trackers_hear_nothing_of_addresses_and_commands(config, tmp_path, monkeypatch):
    from optune.loop.reporting import reporting

    told = {}

    class Tracker:
        requires_logging_directory = False
        __init__ = start = finish = lambda *_: None

        def store_init_configuration(self, values):
            told.update(values)

    monkeypatch.setattr("accelerate.tracking.LOGGER_TYPE_TO_CLASS", {"spy": Tracker})
    server = {"command": f"vllm serve {{model}} --api-key {SECRET}", "base_url": "http://box.example/v1"}
    changes = {"report_to": "spy", "generation.engine": "server", "generation.server": server}
    with reporting(config.with_overrides(changes), tmp_path, None):
        pass
    assert told["selection.ratio"] == 0.5 and told["generation.engine"] == "server"
    assert not [name for name, value in told.items() if SECRET in str(value) or "box.example" in str(value)]


# --- the machine gives out -------------------------------------------------------------------------------------------


@pytest.fixture
def command(random_llama, prompt_file, tmp_path) -> list[str]:
    """A small run from the command line, in a directory of its own."""
    settings = {
        "iterations": 0,
        "threads": 1,
        "policy": {"model": str(random_llama)},
        "reward": {"kind": "gold", "noise": 0.5},
        "prompts": {"path": str(prompt_file), "limit": 32, "max_tokens": 32},
        "generation": {"max_new_tokens": 8},
        "training": {"learning_rate": 1e-4, "batch_size": 16, "micro_batch_size": 16},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    return ["run", "--config", str(tmp_path / "mine.yaml"), "--run-dir", str(tmp_path / "run")]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk on which a file cannot grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [100, 3_000, 30_000])  # the first record, a table, the weights
def test_a_full_disk_stops_the_run_in_one_line_and_the_next_start_continues(command, tmp_path, capsys, size):
    with files_of_at_most(size):
        assert main(command) == 1
    told = capsys.readouterr().err
    assert "error: The disk cannot be written" in told and "the same command continues" in told
    kept = hash_files(tmp_path / "run")
    assert main(command) == 0
    after = hash_files(tmp_path / "run")
    done = {name: digest for name, digest in kept.items() if "/." not in name and name not in ("manifest.json", "lock")}
    assert done.items() <= after.items()
    assert not [name for name in after if name.endswith(".tmp") or ".tmp/" in name]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_turns_read_only_or_full_midway_loses_nothing(command, monkeypatch, capsys, number):
    replace, left = os.replace, [5]

    def fail_later(*paths):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(number, os.strerror(number))
        replace(*paths)

    monkeypatch.setattr(artefacts.os, "replace", fail_later)
    assert main(command) == 1
    assert os.strerror(number) in capsys.readouterr().err
    monkeypatch.undo()
    assert main(command) == 0


def test_a_run_directory_that_cannot_be_made_is_told(command, capsys):
    assert main([*command[:-1], "/proc/optune"]) == 2
    assert "/proc/optune: cannot be used as a run directory" in capsys.readouterr().err


def test_memory_that_does_not_suffice_is_told_in_one_line(capsys):
    import torch

    assert exit_status(lambda: torch.empty(10**15)) == 1
    assert "error: The memory does not suffice" in capsys.readouterr().err
    assert gave_out(MemoryError()) and not gave_out(RuntimeError("shapes differ")) and not gave_out(OSError(2, "x"))


@pytest.mark.parametrize("error", ["MemoryError", "torch.OutOfMemoryError"])
def test_memory_that_runs_out_in_training_loses_nothing(command, tmp_path, monkeypatch, capsys, error):
    import torch

    kind = torch.OutOfMemoryError if "torch" in error else MemoryError

    def train(*_):
        raise kind("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("optune.training.dpo.train_dpo", train)
    assert main(command) == 1
    assert "error: The memory does not suffice" in capsys.readouterr().err
    monkeypatch.undo()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "stages").glob("*/*/*") if path.is_file()}
    assert {path.parts[-3] for path in kept} == {"prompts", "select", "generate", "score", "pairs"}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_an_error_that_is_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: 1 // 0)


def test_sigterm_stops_as_ctrl_c_does_with_the_status_that_schedulers_expect(capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert exit_status(lambda: signal.raise_signal(signal.SIGTERM)) == 143
    assert "the same command continues" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_in_the_middle_of_judge_calls_keeps_every_reply(tmp_path, monkeypatch):
    from test_chat_client import client, requests

    monkeypatch.setenv("OPENAI_API_KEY", SECRET)

    def terminate(calls: int) -> None:
        if calls == 30:
            os.kill(os.getpid(), signal.SIGTERM)

    endpoint = FaultyTransport(latency=0.002, on_call=terminate)
    assert exit_status(lambda: client(tmp_path, endpoint).ask(requests(200)) and None) == 143
    with pytest.raises(Terminated):
        raise Terminated
    client(tmp_path, endpoint).ask(requests(200))
    assert set(endpoint.answered.values()) == {1} and len(endpoint.answered) == 200


def test_what_a_hostile_file_says_is_told_as_one_printable_line():
    assert one_line("a\nb\x1b[31m\u202e\0\ud800") == "a b\\x1b[31m\\u202e\\x00\\ud800"
    assert len(one_line("a" * 10**6)) < 1100


def test_a_lock_whose_holder_was_killed_is_free_at_once(tmp_path):
    script = f"""
import time
from pathlib import Path
from optune.store import run_lock
with run_lock(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid} on"), run_lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    assert f"process {holder.pid}" in (tmp_path / "lock").read_text()  # stale, and believed by nobody
    with run_lock(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_figures_command_that_is_killed(tmp_path, how):
    script = tmp_path / "command.py"
    script.write_text("""
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
from experiments.compute.run_arms import _start_worker
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _start_worker, (context.Queue(),)) as pool:
        pool.submit(time.monotonic).result()
        pool.submit(time.sleep, 600)
        print("busy", flush=True)
        time.sleep(600)
""")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True)
    assert command.stdout.readline() == "busy\n"
    command.send_signal(how)
    command.communicate(timeout=60)  # the worker holds the other end of this pipe as long as it lives


# --- same seed, same decisions ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_and_two_threads_and_two_directories_take_the_same_decisions(config, tmp_path):
    from optune.loop.algorithm import run_optune

    decisions = []
    for threads in (1, 2):
        result = run_optune(config.with_overrides({"threads": threads}), tmp_path / str(threads))
        taken = {}
        for entry in result.stages:
            where, folder = (entry["iteration"], entry["stage"]), Path(entry["path"])
            if entry["stage"] == "select":
                taken[where] = read_json(folder / "selected.json")
            if entry["stage"] == "pairs":
                columns = ["prompt_id", "chosen_iteration", "chosen_index", "chosen_token_ids", "rejected_token_ids"]
                taken[where] = pq.read_table(folder / "pairs.parquet", columns=columns).to_pylist()
        decisions.append(taken)
    assert len(decisions[0]) == 4 and decisions[0] == decisions[1]


def test_pickles_made_here_are_live(tmp_path):
    """The payload above does what it must not do: otherwise the tests that refuse it would show nothing."""
    pickle.load(io.BytesIO(pickle.dumps(Payload(tmp_path / "executed"))))
    assert (tmp_path / "executed").exists()
