"""What the frozen settings rest on: development seeds (from 1000 on) only, never report seeds.

Start with `settings.py` (learning rate, gate and margins: `make develop`).
"""
