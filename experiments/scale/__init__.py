"""`make bench-scale`: how time and memory grow with the number of prompts.

Start with `tasks.py` (what is measured); `__main__.py` runs each task at several sizes and fits the growth.
"""
