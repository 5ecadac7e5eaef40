"""AlpacaEval 2 through the `alpaca-eval` package: `python -m eval.alpaca_eval`.

Start with `evaluate.py` (the command). `annotate.py` asks the judge for preferences, `length_control.py` fits the
length-controlled win rate, `world_annotator.py` is the annotator of our worlds.
"""
