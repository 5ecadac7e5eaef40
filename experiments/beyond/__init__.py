"""Our own questions: when selection pays, what the paper did not try, and recipes at equal budget.

Each script is a figure, as in `paper/`; start with `when_selection_pays.py`.
"""
