"""Which prompts are regenerated: Algorithm 1, lines 4-7 and 10.

Start with `strategies.py`: a strategy is added there (`STRATEGIES`). `further.py` has strategies beyond the paper,
`literature.py` those of other papers, `from_file.py` selects from a table of rewards (`python -m optune select`).
"""
