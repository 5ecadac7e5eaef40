"""Tables and figure of the neighbouring paper RLHF Workflow, a script each; `probes.py` measures what they need."""
