"""Look at a run: `python -m optune view RUN_DIR [RUN_DIR_B]` writes one self-contained HTML page.

Open `page.py` first: it puts together what the others make. `run_files.py` reads the manifest and the Parquet files of
a run (also of one under way) as columns; `statistics.py` sums up each iteration over all prompts; `histories.py` draws
the prompts that are shown with their texts; `sections.py` has what a caller may add. `page.html`, `page.css` and
`page.js` are the page itself, which shows that data and computes nothing but differences of texts.
"""
