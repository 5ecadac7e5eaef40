"""Arena-Hard: one answer per question against a baseline's, compared by a judge on five levels in both orders, and a
Bradley-Terry win rate with its bootstrap interval. Source: Li et al. 2024, "From Crowdsourced Data to High-Quality
Benchmarks: Arena-Hard and BenchBuilder Pipeline"; RLHF Workflow's Tables 2 and 4 have it. Start with `evaluate.py`;
`games.py` holds the judge's calls, how verdicts are read and what they come to; the prompt, in our words, is
`prompt.txt`. Question files are the user's own and not part of this repository.
"""
