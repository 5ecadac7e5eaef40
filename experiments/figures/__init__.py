"""What every figure and table is, and the command over all of them: `python -m experiments.figures fig3`.

Start with `figure.py` (the one way from arms to a picture). `registry.py` lists the figures by name, `style.py` is how
they look.
"""
