"""What a run will take, before it is run: `python -m optune plan`.

Start with `cost_model.py` (seconds and memory of each stage) and `hardware.py` (models' shapes, GPUs). `report.py` is
the command's text; `nodes.py` and `shares.py` are its parts for several machines and for Table 1; `measured_cost.py`
fits the model to recorded runs, `own_machine.py` plans from speeds that `optune/loop/measure.py` measured on this
machine; `writer_cost.py` plans a prompt writer's calls.
"""
