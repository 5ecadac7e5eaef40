"""Silences libraries, so that users see our lines only, and switches off their telemetry."""

from __future__ import annotations

import logging
import os
import sys
import warnings

# Read when the libraries are imported, so this module comes before them. What the user has set is kept.
for _name, _value in {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}.items():
    os.environ.setdefault(_name, _value)


def quiet_libraries() -> None:
    """Errors only, and no progress bars, from transformers, TRL, datasets and accelerate."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if "datasets" in sys.modules:  # it is slow to import, and not everything needs it
        import datasets

        datasets.utils.logging.set_verbosity_error()
        datasets.disable_progress_bars()
    for name in ("accelerate", "trl", "httpx", "openai"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers|trl|accelerate)\b.*")
