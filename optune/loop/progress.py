"""One line of progress for a whole run: speed, mean reward, the time left, and the stage under way.

The time left is that of all stages to come, not only of the current loop: each is expected to take what its like took,
in this process or in the one that it continues. Every finished stage is drawn: tqdm alone draws at most ten times a
second, so that a short one would never show. While responses are sampled the line is drawn once a second, in a file
every ten.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import defaultdict

from tqdm import tqdm

from optune.config import RunConfig
from optune.loop.manifest import ToldEntry
from optune.loop.steps import OUTCOME, STEPS, VALIDATE

# What an iteration's work is taken to be, in shares; sampling shrinks with the selection ratio.
SAMPLING, TRAINING = 0.7, 0.3
GROWS_WITH_RATIO = ("generate", "score")  # the other stages have the same work in every iteration
FORMAT = "{l_bar}{bar}| {elapsed}{postfix}"
TICK_S, IN_A_FILE_S = 1.0, 10.0
EARLY, EARLY_S = 0.1, 60.0  # a share of responses or seconds, before which loading and the prompts weigh too much


class Progress:
    """A bar over a run's work; `stage` and `sampled` are what `run_optune` calls as it goes."""

    def __init__(self, config: RunConfig):
        ratio = 0.0 if config.selection.strategy == "none" else config.selection.ratio
        self.ratios = [1.0, *[ratio] * config.iterations]
        self.sampling = [SAMPLING * share for share in self.ratios]
        total = sum(self.sampling) + TRAINING * len(self.sampling)
        self.bar = tqdm(total=round(total, 3), file=sys.stderr, bar_format=FORMAT)
        self.done, self.iteration = 0.0, 0
        unseen = {"history"} | ({"kl"} if config.kl_prompts == 0 else set())
        self.iterations, self.names = config.iterations, [step.name for step in STEPS if step.name not in unseen]
        self.names += [VALIDATE.name] if config.validation else []
        self.names += [OUTCOME.name] if config.validation and config.validation.outcome else []
        self.finished = 0  # stages
        self.seconds, self.work = defaultdict(float), defaultdict(float)  # by stage; work: of iterations at ratio 1
        self.since = time.monotonic()  # the stage under way began
        self.rate = self.reward = ""
        self._show(0.0)
        self.on_screen = sys.stderr.isatty()
        self.every_s, self.drawn = TICK_S if self.on_screen else IN_A_FILE_S, -math.inf  # while responses are sampled
        self.ended = threading.Event()

    def __enter__(self) -> Progress:
        if self.on_screen:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.bar.close()

    def _tick(self) -> None:
        """Draws the time that has gone every second: some stages take minutes and tell nothing meanwhile."""
        while not self.ended.wait(TICK_S):
            self.bar.refresh()

    def sampled(self, done: int, of: int) -> None:
        """Responses of the sampling under way; what is sampled after training (for the KL) is not counted."""
        if self.iteration < 0:
            return
        now = time.monotonic()
        gone = now - self.since
        if done and gone:
            self.rate = f"{done / gone:.1f} responses/s"
            draw = now - self.drawn >= self.every_s
            known = done >= EARLY * of or gone >= EARLY_S
            left = gone / done * (of - done) if known else None
            self._show(self.done + self.sampling[self.iteration] * done / of, left, draw)
            self.drawn = now if draw else self.drawn

    def stage(self, entry: ToldEntry) -> None:
        """A finished stage: sampling, or training with all that stands around it."""
        t, stage, counts = entry["iteration"], entry["stage"], entry["counts"]
        self.iteration = t if stage in ("prompts", "select") else -1
        self.done += {"generate": self.sampling[t], "train": TRAINING}.get(stage, 0.0)
        self.seconds[stage] += entry["timing"]["wall_s"]
        self.work[stage] += self._work(stage, t)
        if counts.get("tokens"):
            self.rate = f"{counts['tokens'] / entry['timing']['wall_s']:,.0f} tokens/s"
        if stage == "score" and counts["reward_mean"] is not None:
            self.reward = f"mean reward {counts['reward_mean']:.4g}"
        self.finished = t * len(self.names) + self.names.index(stage) + 1
        self.since = time.monotonic()
        self._show(self.done)
        for sentence in entry.get("told", ()):
            self.bar.write(sentence, file=sys.stderr)

    def _show(self, done: float, under_way: float | None = None, draw: bool = True) -> None:
        """under_way: seconds that the current stage still takes, if it tells. draw: now, not with what comes next."""
        left = self._left(under_way)
        told = [self.rate, self.reward, f"{tqdm.format_interval(left)} left" if left else "", self._label()]
        self.bar.set_postfix_str(", ".join(part for part in told if part), refresh=False)
        self.bar.n = max(self.bar.n, min(done, self.bar.total))
        if draw:
            self.bar.refresh()

    def _label(self) -> str:
        """The stage under way: the one after those that finished."""
        t, place = divmod(self.finished, len(self.names))
        return f"iteration {t} {self.names[place]}" if t <= self.iterations else "finished"

    def _left(self, under_way: float | None) -> float:
        """Seconds of all stages to come; 0 where nothing tells yet, which before the first sampling is so."""
        if not self.work["generate"] and under_way is None:
            return 0.0
        left, last = under_way or 0.0, (self.iterations + 1) * len(self.names)
        for number in range(self.finished + (under_way is not None), last):
            t, place = divmod(number, len(self.names))
            left += self._expected(self.names[place], t, under_way)
        return left

    def _expected(self, stage: str, t: int, under_way: float | None) -> float:
        return self._work(stage, t) * self._pace(stage, under_way)

    def _pace(self, stage: str, under_way: float | None) -> float:
        """Seconds of a stage at ratio 1: as measured; before that, sampling and training are in their usual shares."""
        if self.work[stage]:
            return self.seconds[stage] / self.work[stage]
        if stage == "generate" and under_way is not None:
            t = self.finished // len(self.names)
            return (time.monotonic() - self.since + under_way) / self.ratios[t]
        return TRAINING / SAMPLING * self._pace("generate", under_way) if stage == "train" else 0.0

    def _work(self, stage: str, t: int) -> float:
        return self.ratios[t] if stage in GROWS_WITH_RATIO else 1.0
