"""Measures a finished policy. Neither this package nor the loop imports the other.

Start with `win_score.py` (Eq. 7). `judges/` has the rating prompt, the parser of replies and the judges;
`judge_agreement.py` compares a judge, and `reward_agreement.py` a reward model, with recorded preferences;
`alpaca_eval/`, `benchmarks/` and `human_study/` are the paper's other measures; `outputs.py` answers a prompt set with
a checkpoint, `stats.py` has the intervals.
"""
