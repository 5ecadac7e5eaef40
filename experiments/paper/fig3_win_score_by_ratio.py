"""Figure 3: win score against the offline baseline by selection ratio, strategy and iteration; wDPO.

The paper: at equal ratio the lowest-reward selection beats random selection (striped), and ratios 0.5 and 0.7 are on a
par with 1.0. Deviations: 95% intervals over seeds where the paper has none, and a static control (`none`).
"""

from __future__ import annotations

from experiments.paper.win_score_bars import win_score_figure

FIGURE = win_score_figure("wdpo")
