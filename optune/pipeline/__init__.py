"""The models that a run starts from, trained on one's own data: `optune sft`, `optune reward`, `optune preference`.

Start with `train.py`: it is the three stages, top to bottom. `settings.py` has the options. `rows.py` reads TRL's
formats and holds rows out. `sft.py`, `reward.py` and `preference.py` have what the three commands do differently, as a
`Task` each (`task.py`). `measures.py` has what is measured on held-out rows, `card.py` how it is told.
"""
