"""What one does with a finished run: audit it, free its disk space, export its pairs, push it to a hub.

Start with `audit.py` (`python -m optune audit RUN_DIR`); `clean.py`, `export.py` and `hub.py` are a command each.
"""
