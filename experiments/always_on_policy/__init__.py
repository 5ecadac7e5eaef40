"""Tables of the neighbouring paper Always-On-Policy, a script each; they share `contests.py` and `probes.py`."""
