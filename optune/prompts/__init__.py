"""Where the set P of Algorithm 1 comes from.

Start with `sources.py`: a prompt source is added there (`SOURCES`). `files.py` reads and writes prompt files,
`tokens.py` encodes prompts as the policy sees them; `synthetic.py`, `writer.py` and `near_duplicates.py` are the source
that has prompts written in each iteration.
"""
