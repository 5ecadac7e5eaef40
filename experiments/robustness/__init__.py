"""The long checks, and the record of what they found: `make chaos`, `make fuzz`, `make audit`.

Start with `records.py` (what is recorded, and where); each check is a file.
"""
