"""A run on several machines, as commands to type: Ray shards sampling, accelerate shards training.

Nothing is started here. Machines see the run's folder, this environment and the models under the same paths.
"""

from __future__ import annotations

from optune.config import RunConfig, VllmConfig
from optune.types import UserError

RAY_PORT, TRAINING_PORT = 6379, 29500
CONFIG = "zero3"


def node_commands(config: RunConfig, nodes: int, gpus: int) -> str:
    """The commands of `nodes` machines with `gpus` GPUs each. Raises UserError where the engine cannot be sharded."""
    engine = config.generation.ray.engine if config.generation.ray else config.generation.engine
    if engine not in ("hf", "vllm"):
        raise UserError(f"--nodes: Ray shards the engines hf and vllm, not {engine!r}; start an endpoint on each node.")
    each = (config.generation.vllm or VllmConfig()).tensor_parallel_size if engine == "vllm" else 1
    lines = [
        f"On {nodes} nodes of {gpus} GPUs, which see this folder, .venv and the models at the same paths, and have Ray "
        "(pip install ray):",
        f"  node 0:  ray start --head --port={RAY_PORT} --num-gpus={gpus}",
        *(f"  node {k}:  ray start --address=NODE0:{RAY_PORT} --num-gpus={gpus}" for k in range(1, nodes)),
        "  train.sh, beside the Makefile (the run calls it in each iteration; NODE0, NODE1, ... are the nodes' names):",
        *(f"    {line}" for line in training_script(nodes, gpus).splitlines()),
        f"  node 0:  {run_command(config, nodes * gpus, each, engine)}",
    ]
    return "\n".join(lines)


def training_script(nodes: int, gpus: int) -> str:
    """A shell script that starts its arguments under `accelerate launch` on every node, and fails where one does."""
    hosts = " ".join(f"NODE{k}" for k in range(nodes))
    return "\n".join(
        [
            "rank=0; running=",
            f"for host in {hosts}; do",
            f'  ssh "$host" "cd $PWD && exec {accelerate_command(nodes, gpus)} $*" &',
            '  running="$running $!"; rank=$((rank + 1))',
            "done",
            "for one in $running; do wait $one || exit 1; done",
        ]
    )


def accelerate_command(nodes: int, gpus: int) -> str:
    """`accelerate launch` of one node, whose rank is the shell's $rank."""
    return (
        f".venv/bin/accelerate launch --config_file optune/presets/accelerate/{CONFIG}.yaml --num_machines {nodes} "
        f"--num_processes {nodes * gpus} --machine_rank $rank --main_process_ip NODE0 "
        f"--main_process_port {TRAINING_PORT}"
    )


def run_command(config: RunConfig, gpus: int, each: int, engine: str) -> str:
    """The run itself: sampling on the cluster, training through train.sh."""
    name = f"--preset {config.preset}" if config.preset else "--config FILE"
    return (
        f".venv/bin/python -m optune run {name} seed=0 generation.engine=ray generation.ray.engine={engine} "
        f"generation.ray.workers={gpus // each} launch.mode=accelerate launch.processes={gpus} launch.config={CONFIG} "
        '"launch.command=sh train.sh"'
    ) + ("" if config.training.batching else " training.batching=length_grouped")
