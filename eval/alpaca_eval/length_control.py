"""AlpacaEval 2's length-controlled win rate, fitted by the `alpaca-eval` package itself, from local files only.

The package fits a generalised linear model of the annotator's preference (Dubois et al. 2024, "Length-Controlled
AlpacaEval") and predicts the win rate at equal length. It carries three models; which one can be fitted depends on
what is known about the instructions, and every result names the one it is:

    length_controlled_v1       the leaderboard's: length, instruction difficulty and the regularising annotations of
                               the two "gamed" baselines. Needs `df_gamed.csv`, which exists for AlpacaEval's own 805
                               instructions only.
    length_controlled_noreg    length and instruction difficulty. Needs `instruction_difficulty.csv`.
    length_controlled_minimal  length alone: what can be fitted on any other instructions, the sandbox's among them
                               (a difficulty per instruction is itself fitted over many models).

The package would download its tables, write its weights into site-packages and change scikit-learn's and the root
logger's settings; `_package_reads` is the one place that prevents all four.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from optune.types import UserError
from optune.utils.hashing import sha256_of

HUB_DATASET = "tatsu-lab/alpaca_eval"
OFFICIAL_SHA256 = {
    "df_gamed.csv": "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d",
    "instruction_difficulty.csv": "e28d875bb334f75e17acd1e4ed659b261860e3db379cf5de29060301bed0a18b",
}
GAMED_COLUMNS = ["model", "index", "instruction_difficulty", "preference", "std_delta_len", "not_gamed_baseline"]
JACKKNIFE_GROUPS = 20
SMALLEST_FIT = 5  # the package cross-validates its penalty over five folds
UNFITTED = {"length_controlled_winrate": None, "lc_standard_error": None, "lc_standard_error_method": None}


@dataclass(frozen=True)
class Assets:
    """The package's two tables as local files; None where there is none."""

    gamed: Path | None = None
    difficulty: Path | None = None

    def read_gamed(self) -> pd.DataFrame | None:
        """The annotations of the two gamed baselines, one row per baseline and instruction."""
        return self.gamed and _read_table(self.gamed, GAMED_COLUMNS)

    def read_difficulty(self) -> pd.Series | None:
        """One difficulty per instruction, in AlpacaEval's order."""
        if self.difficulty is None:
            return None
        return _read_table(self.difficulty, ["instruction_difficulty"])["instruction_difficulty"]

    def provenance(self) -> dict[str, dict[str, Any] | None]:
        """Per official file name: the file taken for it, its SHA-256, and whether that is the official one."""
        return {
            official: path and {"file": path.name, "sha256": sha256_of(path), "official": sha256_of(path) == digest}
            for (official, digest), path in zip(OFFICIAL_SHA256.items(), (self.gamed, self.difficulty), strict=True)
        }


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path).dropna(how="all").reset_index(drop=True).infer_objects()  # less the empty rows
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}).") from None
    if missing := [c for c in columns if c not in table or table[c].isna().any()]:
        raise UserError(f"{path}: the column {missing[0]!r} is missing or has gaps.")
    if texts := [c for c in columns if c != "model" and not is_numeric_dtype(table[c])]:
        raise UserError(f"{path}: the column {texts[0]!r} holds what is no number; write decimals with a point.")
    return table


def find_assets(folder: Path) -> Assets:
    """The tables in `folder`, by name: `df_gamed*.csv` and `instruction_difficulty*.csv`, at most one of each."""
    if not folder.is_dir():
        raise UserError(f"--assets {folder}: there is no such folder.")
    assets = Assets(_only(folder, "df_gamed"), _only(folder, "instruction_difficulty"))
    if assets == Assets():
        raise UserError(f"--assets {folder}: it holds neither df_gamed*.csv nor instruction_difficulty*.csv.")
    return assets


def _only(folder: Path, stem: str) -> Path | None:
    matching = sorted(folder.glob(f"{stem}*.csv"))
    if len(matching) > 1:
        names = ", ".join(p.name for p in matching)
        raise UserError(f"--assets {folder}: {names} all match {stem}*.csv; leave the one that is meant.")
    return matching[0] if matching else None


def hub_assets(*, offline: bool) -> Assets:
    """The official tables from the hub, or from its cache where `offline`."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def fetch(name: str) -> Path:
        try:
            return Path(hf_hub_download(HUB_DATASET, name, repo_type="dataset", local_files_only=offline))
        except (HfHubHTTPError, LocalEntryNotFoundError):
            raise UserError(
                f"AlpacaEval's {name} is neither in the hub's cache nor within reach; give a folder with --assets."
            ) from None

    return Assets(fetch("df_gamed.csv"), fetch("instruction_difficulty.csv"))


def length_controlled(
    annotations: pd.DataFrame, instruction_difficulty: pd.Series | None = None, gamed: pd.DataFrame | None = None
) -> dict[str, Any]:
    """The length-controlled win rate (percent) of `output_2` against `output_1`, its standard error and its variant.

    `annotations`: one row per instruction, in the order of the tables' `index` column, with `output_1`, `output_2` and
    `preference` (1 to 2; NaN where the annotator's reply could not be read: such a row is predicted, never fitted).
    `instruction_difficulty`: one number per row. `gamed`: `df_gamed.csv`, difficulties included.

    The package's own standard error is that of the predictions over instructions. Without difficulties these are all
    equal and it would be 0, so there the error is a delete-a-group jackknife over 20 groups of instructions.
    """
    if gamed is not None:
        variant, table = "length_controlled_v1", gamed
    elif instruction_difficulty is not None:
        variant, table = "length_controlled_noreg", _table(np.asarray(instruction_difficulty, dtype=float))
    else:
        variant, table = "length_controlled_minimal", _table(np.zeros(len(annotations)))
    rows = table["index"].nunique()
    if rows != len(annotations):
        raise UserError(
            f"The instruction difficulties are for {rows} instructions, the annotations {len(annotations)}."
        )

    frame = annotations[["output_1", "output_2"]].reset_index(drop=True)
    frame["preference"] = annotations["preference"].to_numpy(dtype=float)
    # The package calls a model that bears the baseline's name the baseline and says 50 without looking.
    frame = frame.assign(generator_1="reference", generator_2="model")
    if reason := _unfit(frame, regularised=gamed is not None):
        return {"lc_variant": f"none: {reason}", **UNFITTED}

    with _package_reads(table) as glm:
        metrics = _fit(glm, frame, variant, warn=True)
        error, method = metrics["lc_standard_error"], "predictions over instructions (the package's)"
        if variant == "length_controlled_minimal":
            error, method = _jackknife(glm, frame, variant), f"delete-a-group jackknife, {JACKKNIFE_GROUPS} groups"
        return {
            "length_controlled_winrate": float(metrics["length_controlled_winrate"]),
            "lc_standard_error": None if error is None else float(error),
            "lc_standard_error_method": None if error is None else method,
            "lc_variant": variant,
            "lc_formula": glm.GLM_INFO[variant]["formula"],
        }


def _unfit(frame: pd.DataFrame, *, regularised: bool) -> str:
    """Why no model can be fitted to these preferences; empty where one can.

    The package does not look: with one win among 805 otherwise certain losses its folds lack a class, and it says 21%.
    """
    preference = frame["preference"].dropna()
    support = len(preference) if regularised else min((preference > 1).sum(), (preference < 2).sum())
    if support < SMALLEST_FIT:
        return f"at least {SMALLEST_FIT} annotations are needed that are no certain losses, and {SMALLEST_FIT} no wins"
    if (frame["output_1"].str.len() - frame["output_2"].str.len()).nunique() == 1:
        return "all differences of length are the same"
    return ""


def _fit(glm: ModuleType, frame: pd.DataFrame, variant: str, *, warn: bool = False) -> dict[str, Any]:
    return glm.get_length_controlled_winrate(
        frame,
        glm_name=variant,
        save_weights_dir=None,
        is_add_glm_preference_inplace=False,
        is_warn_extreme_changes=warn,
    )


def _jackknife(glm: ModuleType, frame: pd.DataFrame, variant: str) -> float | None:
    """Delete-a-group jackknife of the fitted win rate; None with fewer than two instructions per group."""
    if len(frame) < 2 * JACKKNIFE_GROUPS:
        return None
    group = np.arange(len(frame)) % JACKKNIFE_GROUPS
    left_out = np.array(
        [_fit(glm, frame[group != g], variant)["length_controlled_winrate"] for g in range(JACKKNIFE_GROUPS)]
    )
    return float(np.sqrt((JACKKNIFE_GROUPS - 1) * left_out.var()))


def _table(difficulty: np.ndarray) -> pd.DataFrame:
    """A `df_gamed.csv` that holds difficulties only: all that the models without regularisation read of it."""
    return pd.DataFrame({"model": "", "index": range(len(difficulty)), "instruction_difficulty": difficulty})


@contextlib.contextmanager
def _package_reads(table: pd.DataFrame) -> Iterator[ModuleType]:
    """The package's `glm_winrate` module, made to read `table` where it would download `df_gamed.csv`.

    The module looks `hf_hub_download` up by that name and hands the answer to `pandas.read_csv`, so the name stands
    for the table while the context lasts: nothing goes to the network, the user's hub cache or site-packages.
    """
    import sklearn

    package = load_package("metrics.glm_winrate")
    text = table.to_csv(index=False)
    download = package.hf_hub_download
    package.hf_hub_download = lambda **_: io.StringIO(text)
    try:
        with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield package
    finally:
        package.hf_hub_download = download


def load_package(module: str) -> ModuleType:
    """Import `alpaca_eval.<module>` without its two side effects: a chatty root logger, and warnings of its own age."""
    import importlib

    level = logging.getLogger().level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"alpaca_eval.{module}")
    except ModuleNotFoundError as error:
        wanted = "setuptools<81" if error.name == "pkg_resources" else "alpaca-eval==0.6.6 scikit-learn<1.10 patsy"
        raise UserError(f"AlpacaEval needs a package that is not installed: pip install {wanted!r}.") from None
    finally:
        logging.getLogger().setLevel(level)
