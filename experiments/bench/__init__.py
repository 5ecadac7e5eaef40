"""`make bench`: how fast this is beside its peers, in the same run, on the same model, prompts and updates.

One file per measure; each returns rows (`rows.py`), which go to `results/bench/<machine>.json` as soon as they are
there, and from there into docs/speed.md (`table.py`). Peers take turns with us (A B A B ...), so that changes in the
machine's speed affect all alike. Medians are given with the smallest and largest value. All use all cores.
"""
