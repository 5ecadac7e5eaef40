"""The options that make a run use certain GPUs, and the commands that start it on one machine or on several.

Nothing is started here. Several machines must see the run's folder, this environment and the models under the same
paths. Ray then spreads sampling over all of them and accelerate spreads training; rewarding runs on the first machine.
"""

from __future__ import annotations

from typing import Any

from optune.config import PRESETS, LaunchConfig, RunConfig
from optune.plan.cost_model import spread_of, tensor_parallel
from optune.types import UserError

RAY_PORT, TRAINING_PORT = 6379, 29500
SCRIPT = "train.sh"


def fitted(config: RunConfig, nodes: int, gpus: int) -> dict[str, Any]:
    """Options to change, by dotted name, so that a run uses `nodes` machines with `gpus` GPUs each.

    Empty if it does already. Raises UserError if no options can make it do so.
    """
    wanted = {**_sampling(config, nodes, gpus), **_rewarding(config, gpus), **_training(config, nodes, gpus)}
    return {name: value for name, value in wanted.items() if _option(config, name) != value}


def _sampling(config: RunConfig, nodes: int, gpus: int) -> dict[str, Any]:
    own, each = config.generation, tensor_parallel(config)
    if nodes == 1 and spread_of(config).generation == gpus:
        return {}
    if gpus % each:
        raise UserError(f"--gpus: {gpus} is no multiple of generation.vllm.tensor_parallel_size={each}.")
    if own.engine == "ray" or nodes > 1:
        engine = own.ray.engine if own.ray else "vllm" if own.engine == "ray" else own.engine
        if engine not in ("hf", "vllm"):
            raise UserError(f"--nodes: Ray shards the engines hf and vllm, not {engine!r}; start an endpoint per node.")
        workers = nodes * gpus // each
        return {"generation.engine": "ray", "generation.ray.engine": engine, "generation.ray.workers": workers}
    if own.engine == "vllm":
        return {"generation.vllm.data_parallel_size": gpus // each}
    return {"generation.workers": gpus} if own.engine == "hf" else {}


def _rewarding(config: RunConfig, gpus: int) -> dict[str, Any]:
    """Rewarding uses the GPUs of the run's own machine only."""
    if config.reward.kind != "sequence_classifier" or spread_of(config).rewarding == gpus:
        return {}
    return {"reward.workers": gpus if gpus > 1 else None}


def _training(config: RunConfig, nodes: int, gpus: int) -> dict[str, Any]:
    """With LoRA each process holds all weights (ddp). Learners other than DPO train in one process, on one GPU."""
    if config.training.learner not in (None, "dpo"):
        return {}
    if nodes * gpus == 1:
        return {"launch": None} if config.launch and config.launch.processes > 1 else {}
    ready = "ddp" if config.training.lora else config.launch.config if config.launch else "fsdp"
    wanted = {"launch.mode": "accelerate", "launch.processes": nodes * gpus, "launch.config": ready}
    if config.training.batching is None:
        wanted["training.batching"] = "length_grouped"
    return wanted | ({"launch.command": f"sh {SCRIPT}"} if nodes > 1 else {})


def _option(config: RunConfig, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def run_command(arguments: str, changes: dict[str, Any], python: str = "python") -> str:
    """The command of the run that `arguments` name, with the options that `fitted` returned."""
    return " ".join([f"{python} -m optune run {arguments}", *(_override(*pair) for pair in changes.items())])


def named(config: RunConfig) -> str:
    """Command-line arguments for a run, as far as its configuration tells them."""
    name = f"--preset {config.preset}" if config.preset else "--config FILE"
    return f"{name} --recipe {config.recipe}" if config.recipe else name


def _override(name: str, value: Any) -> str:
    text = f"{name}={'null' if value is None else value}"
    return f'"{text}"' if " " in text else text


def training_command(launch: LaunchConfig) -> str:
    """What the run starts for each iteration's training on one machine; JOB is a folder that it writes."""
    if launch.mode == "process":
        return "python -m optune.training.worker JOB"
    if launch.command:
        return f"{launch.command} -m optune.training.worker JOB"
    return (
        f"accelerate launch --config_file {config_path(launch)} --num_processes {launch.processes} "
        "-m optune.training.worker JOB"
    )


def config_path(launch: LaunchConfig) -> str:
    """The path of accelerate's configuration file, from the repository's root."""
    ready = PRESETS / "accelerate" / f"{launch.config}.yaml"
    return f"optune/presets/accelerate/{ready.name}" if ready.is_file() else launch.config


def node_commands(config: RunConfig, changes: dict[str, Any], nodes: int, gpus: int, arguments: str) -> str:
    """The commands to type on each of `nodes` machines with `gpus` GPUs.

    changes: what `fitted` returned, already applied to `config`. arguments: those that name the run on the command
    line.
    """
    lines = [
        f"On {nodes} nodes of {gpus} GPUs, which see this folder, .venv and the models at the same paths, and have Ray "
        "(pip install ray):",
        f"  node 0:  ray start --head --port={RAY_PORT} --num-gpus={gpus}",
        *(f"  node {k}:  ray start --address=NODE0:{RAY_PORT} --num-gpus={gpus}" for k in range(1, nodes)),
    ]
    if config.launch:
        script = training_script(config.launch, nodes).splitlines()
        lines += [
            f"  {SCRIPT}, beside the Makefile (the run calls it in each iteration; NODE0, NODE1, ... are the nodes' "
            "names):",
            *(f"    {line}" for line in script),
        ]
    return "\n".join([*lines, f"  node 0:  {run_command(arguments, changes, '.venv/bin/python')}"])


def training_script(launch: LaunchConfig, nodes: int) -> str:
    """A shell script that runs its arguments under `accelerate launch` on every node. It fails if one node fails."""
    hosts = " ".join(f"NODE{k}" for k in range(nodes))
    return "\n".join(
        [
            "rank=0; running=",
            f"for host in {hosts}; do",
            f'  ssh "$host" "cd $PWD && exec {accelerate_command(launch, nodes)} $*" &',
            '  running="$running $!"; rank=$((rank + 1))',
            "done",
            "for one in $running; do wait $one || exit 1; done",
        ]
    )


def accelerate_command(launch: LaunchConfig, nodes: int) -> str:
    """`accelerate launch` of one node, whose rank is the shell's $rank."""
    return (
        f".venv/bin/accelerate launch --config_file {config_path(launch)} --num_machines {nodes} "
        f"--num_processes {launch.processes} --machine_rank $rank --main_process_ip NODE0 "
        f"--main_process_port {TRAINING_PORT}"
    )
