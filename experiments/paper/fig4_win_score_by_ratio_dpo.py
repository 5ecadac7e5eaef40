"""Figure 4: the same as Figure 3 under plain DPO (Eq. 5).

The paper: OPTune matches or surpasses ratio 1 in iterations 1 and 3 and lags slightly in 2; it beats random selection
at every ratio. Deviations as in Figure 3.
"""

from __future__ import annotations

from experiments.paper.win_score_bars import win_score_figure

FIGURE = win_score_figure("dpo")
