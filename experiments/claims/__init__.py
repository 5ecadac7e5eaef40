"""What is claimed and how it is judged: the pre-registration, committed before arms are compared.

Start with `rules.py` (seeds, contrasts, margins, verdicts), then `claims.py` (the list). `contrasts.py` has each
claim's number per seed, `budgets.py` and `recipe_contrasts.py` those of the recipes, `verdicts.py` applies the rules.
"""
