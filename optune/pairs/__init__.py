"""From responses to training pairs: Algorithm 1, lines 12-18 and 20.

Start with `pairing.py` (`PAIRINGS`: which two responses of a prompt make its pair). `offline.py` reads pairs that
somebody else made, `rows.py` turns pairs into rows of token ids for training.
"""
