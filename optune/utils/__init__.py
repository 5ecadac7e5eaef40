"""What everything may use and needs nothing but `optune.types`: files, hashes, checkpoints, processes, registries.

Start with `files.py` (atomic writes, readers that name the file in their errors) and `hashing.py` (hashes and seeds
that are the same on every machine).
"""
