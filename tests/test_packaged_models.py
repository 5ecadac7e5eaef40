"""Packaged models: fetched once, checked by hash, and every fault is one sentence from which the next start goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple
from pathlib import Path

import pytest
from packaged_wheel import TornIndex, tiny_gguf, wheel_of

from optune.config import parse_config
from optune.packaged_models import cache, catalogue, fetch
from optune.packaged_models.cache import cache_root, packaged_model
from optune.packaged_models.names import checkpoint_of, packaged_hashes, resolve_packaged
from optune.store import content_hash
from optune.types import UserError

GGUF = b"GGUF, but for the tests' sake any bytes" * 1000


def written(model, gguf: Path, folder: Path) -> None:
    """Stands in for `dequantise`."""
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(gguf.read_bytes()[::-1])


@pytest.fixture
def index(monkeypatch, tmp_path) -> Path:
    """A package index in a folder, with the wheel of the one packaged model `tiny`; a cache of this test's own."""
    folder = tmp_path / "index"
    model = wheel_of(GGUF, folder)
    monkeypatch.setattr(catalogue, "MODELS", {model.name: model})
    monkeypatch.setattr(cache, "check_reader", lambda model: None)
    monkeypatch.setattr(cache, "dequantise", written)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("OPTUNE_CACHE", str(tmp_path / "cache"))
    return folder


def without_index(monkeypatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")


def one_sentence(error: pytest.ExceptionInfo) -> str:
    """The error's text, which is one line, names what to do instead, and shows no address."""
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text and "://" not in text
    assert text.endswith("set policy.model to a local folder, or to the hub name someone/tiny.")
    return text


def test_first_use_fetches_without_dependencies_and_the_second_needs_no_index(index, monkeypatch, capfd):
    folder = packaged_model("tiny")
    assert (folder / "model.safetensors").read_bytes() == GGUF[::-1]
    assert "once for this user" in capfd.readouterr().err
    without_index(monkeypatch)
    assert packaged_model("tiny") == folder
    kept = {path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock")}
    assert kept == {folder.name}, "wheel and GGUF are gone"
    assert capfd.readouterr().err == ""


def test_the_cache_is_the_users_and_may_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("OPTUNE_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("OPTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "optune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "optune"


def test_a_wheel_with_another_hash_is_refused_and_the_right_one_taken_next_time(index):
    wheel = index / "tiny_model-0.1-py3-none-any.whl"
    right = wheel.read_bytes()
    wheel_of(GGUF + b"!", index)
    with pytest.raises(UserError) as error:
        packaged_model("tiny")
    assert "is not the pinned one (SHA-256 " in one_sentence(error)
    wheel.write_bytes(right)
    assert (packaged_model("tiny") / "config.json").is_file()


def test_a_download_is_measured_while_its_folders_come_and_go(tmp_path, monkeypatch):
    """As pip removes its own: after a folder has been listed, and before it is looked into."""
    (tmp_path / "wheel").write_bytes(b"123")
    scan = os.scandir

    def scan_after_removal(path):
        if Path(path).name == "unpacked":
            Path(path).rmdir()
        return scan(path)

    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr(os, "scandir", scan_after_removal)
    assert fetch._bytes_below(tmp_path) == 3
    assert not (tmp_path / "unpacked").exists()


def test_a_torn_download_is_told_and_the_next_start_downloads_again(index, monkeypatch):
    links = os.environ["PIP_FIND_LINKS"]
    without_index(monkeypatch)
    monkeypatch.delenv("PIP_NO_INDEX")
    with TornIndex(index / "tiny_model-0.1-py3-none-any.whl") as torn:
        monkeypatch.setenv("PIP_INDEX_URL", torn.url)
        with pytest.raises(UserError) as error:
            packaged_model("tiny")
    one_sentence(error)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", links)
    assert (packaged_model("tiny") / "config.json").is_file()


def test_a_half_written_wheel_of_a_killed_attempt_is_not_believed(index):
    model = catalogue.MODELS["tiny"]
    work = cache_root() / "models" / f".{model.folder_name}.work"
    work.mkdir(parents=True)
    (work / model.wheel).write_bytes((index / model.wheel).read_bytes()[:100])
    (work / "tiny.gguf").write_bytes(GGUF[:100])
    assert (packaged_model("tiny") / "model.safetensors").read_bytes() == GGUF[::-1]


def test_without_network_the_sentence_names_folder_and_hub_name(index, monkeypatch):
    without_index(monkeypatch)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(UserError) as error:
        packaged_model("tiny")
    assert "could not be downloaded from the package index" in one_sentence(error)


def test_an_interpreter_without_pip_is_told(index, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(fetch.sys, "executable", str(python))
    with pytest.raises(UserError) as error:
        packaged_model("tiny")
    assert "ensurepip" in one_sentence(error)


def test_a_disk_without_two_gigabytes_is_told_before_anything_is_downloaded(index, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage(9e9, 8e9, 1e9))
    monkeypatch.setattr(cache, "fetch_gguf", None)
    with pytest.raises(UserError, match=r"1\.0 GB are free, and getting tiny takes 2 GB: free some"):
        packaged_model("tiny")


def test_a_cache_that_cannot_be_written_is_told(index, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OPTUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written .*; set OPTUNE_CACHE to a folder for models"):
        packaged_model("tiny")


def test_a_missing_reader_is_told_before_anything_is_downloaded(monkeypatch, tmp_path):
    from optune.packaged_models import dequantise

    monkeypatch.setenv("OPTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(dequantise, "find_spec", lambda name: None)
    monkeypatch.setattr(cache, "fetch_gguf", None)
    with pytest.raises(UserError, match="needs the package gguf"):
        packaged_model("smollm2-135m-instruct")


KILLED = """
import os, signal, sys
from packaged_wheel import wheel_of
from optune.packaged_models import cache, catalogue
from pathlib import Path

model = wheel_of(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]))
catalogue.MODELS = {model.name: model}
cache.check_reader = lambda model: None

def killed(model, gguf, folder):
    (folder / "config.json").write_text("{")
    os.kill(os.getpid(), signal.SIGKILL)

cache.dequantise = killed
cache.packaged_model("tiny")
"""


def test_after_a_kill_while_dequantising_the_next_start_goes_on_without_downloading(index, monkeypatch, tmp_path):
    (tmp_path / "gguf").write_bytes(GGUF)
    tests = Path(__file__).parent
    script = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "gguf"), str(index)]
    paths = os.pathsep.join([str(tests), str(tests.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    found = subprocess.run(script, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, cwd=tests.parent)
    assert found.returncode == -signal.SIGKILL, found.stderr.decode()
    model = catalogue.MODELS["tiny"]
    assert not (cache_root() / "models" / model.folder_name).exists()
    without_index(monkeypatch)
    assert (packaged_model("tiny") / "config.json").read_text() == "{}"


def test_a_damaged_folder_is_made_again(index, capfd):
    folder = packaged_model("tiny")
    before = content_hash(folder)
    (folder / "model.safetensors").write_bytes(b"torn")
    assert content_hash(packaged_model("tiny")) == before
    assert "is made again" in capfd.readouterr().err


def test_of_two_that_want_it_at_once_one_makes_it_and_the_other_waits(index, monkeypatch):
    made, started, waiting = [], threading.Event(), threading.Event()

    def slow(model, gguf, folder):
        made.append(folder)
        started.set()
        assert waiting.wait(60)
        written(model, gguf, folder)

    monkeypatch.setattr(cache, "dequantise", slow)
    monkeypatch.setattr(cache, "_tell", lambda text: waiting.set() if "waiting for it" in text else None)
    found = []
    both = [threading.Thread(target=lambda: found.append(packaged_model("tiny"))) for _ in range(2)]
    both[0].start()
    assert started.wait(60)
    both[1].start()
    for thread in both:
        thread.join()
    assert len(made) == 1 and len(found) == 2 and len(set(found)) == 1


def configuration(model: str, **more: object):
    data = {"policy": {"model": model}, "reward": {"kind": "gold"}, "prompts": {"path": "p.jsonl"}, **more}
    return parse_config(data, "test")


def test_packaged_names_become_folders_and_other_names_stay(index):
    plain = configuration("someone/other")
    assert resolve_packaged(plain) is plain and packaged_hashes(plain) == {}
    config = configuration("packaged:tiny", evaluation={"baseline": "packaged:tiny"})
    found = resolve_packaged(config)
    assert found.policy.model == found.evaluation.baseline == str(packaged_model("tiny"))
    assert packaged_hashes(config) == {"tiny": content_hash(found.policy.model)}


def test_an_evaluation_takes_packaged_names_and_leaves_others_as_they_are(index):
    assert checkpoint_of("packaged:tiny") == str(packaged_model("tiny"))
    assert checkpoint_of("someone/other") == "someone/other"


def test_an_unknown_packaged_name_lists_the_known_ones(index):
    with pytest.raises(UserError, match="There is no packaged model 'tin'; known: tiny"):
        resolve_packaged(configuration("packaged:tin"))


def test_the_loop_refuses_names_that_nobody_resolved(tmp_path):
    from optune.loop.algorithm import run_optune

    with pytest.raises(UserError, match=r"policy\.model=packaged:tiny.*must be resolved to a path"):
        run_optune(configuration("packaged:tiny"), tmp_path)


def test_a_gguf_file_becomes_a_checkpoint_that_reads_text_as_the_model_was_trained(index, monkeypatch, tmp_path):
    pytest.importorskip("gguf")
    from transformers import AutoModelForCausalLM

    from optune.packaged_models.dequantise import dequantise
    from optune.utils.checkpoints import load_generation_config, load_model, load_tokenizer

    shutil.rmtree(index)
    model = wheel_of(tiny_gguf(tmp_path / "tiny.gguf"), index)
    monkeypatch.setattr(catalogue, "MODELS", {model.name: model})
    monkeypatch.setattr(cache, "dequantise", dequantise)
    folder = packaged_model("tiny")
    tokenizer, network = load_tokenizer(folder), load_model(AutoModelForCausalLM, folder)
    assert network.config.num_hidden_layers == 1 and network.dtype.is_floating_point
    assert "quantization_config" not in network.config.to_dict()
    assert load_generation_config(folder).eos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id == 2
    assert tokenizer.tokenize("a\n\n12") == ["a", "ĊĊ", "1", "2"], "digits are split off first"
    assert tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"], "no token at the start"
    assert tokenizer.model_max_length == 128


@pytest.mark.parametrize("offline", [True, False])
def test_the_folders_bytes_do_not_depend_on_whether_the_hub_may_be_asked(offline, index, monkeypatch, tmp_path):
    pytest.importorskip("gguf")
    from huggingface_hub import constants

    from optune.packaged_models.dequantise import dequantise

    gguf = tiny_gguf(tmp_path / "tiny.gguf")
    model, folder = wheel_of(gguf, tmp_path / "another"), tmp_path / "folder"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "tiny.gguf").write_bytes(gguf)
    dequantise(model, tmp_path / "gguf" / "tiny.gguf", folder)
    assert json.loads((folder / "tokenizer_config.json").read_text())["local_files_only"] is True
