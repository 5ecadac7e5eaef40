"""A script per figure and table of the paper; nothing else.

Each is named after what it shows. Figures 3 and 4 share `win_score_bars.py`.
"""
