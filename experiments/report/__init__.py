"""The replication report: `make report`.

Start with `report.py` (what stands in it). `numbers.py` computes the numbers that its words quote, `readme_tables.py`
the tables of README and docs/results.md, `page.py` the HTML page; `words/` is the prose.
"""
