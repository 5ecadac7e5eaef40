"""How much the tiny world's results depend on what was fixed: a script for each question, descriptive throughout.

Start with `arms.py`: what is run, committed before it was run. No claims are judged here: three seeds of one build.
"""
