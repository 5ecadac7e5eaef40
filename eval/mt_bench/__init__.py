"""MT-Bench: two-turn questions, each turn of each answer graded from 1 to 10 by a judge. Source: Zheng et al. 2023,
"Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", single-answer grading; RLHF Workflow's Table 2 has it. Start
with `evaluate.py`; `grading.py` holds the judge's calls and how replies are read; the prompts, in our words, are
`turn_1.txt`, `turn_2.txt` and the two with a reference answer. Question files are the user's own and not part of this
repository.
"""
