"""Training: Algorithm 1, line 22, and the models that a run starts from.

Start with `losses.py` (Eq. 5 and 6) and `dpo.py` (one iteration's preference step). `learners.py` is where another way
to learn is added (`LEARNERS`); `weighted_trainer.py` is TRL's trainer with our loss, `grouped_trainer.py` the same on
micro-batches of like lengths; `sft.py` and `reward_model.py` (Eq. 1) train the start policy and the reward model.
"""
