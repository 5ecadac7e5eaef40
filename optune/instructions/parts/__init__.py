"""What a run takes from the world `instructions` beyond pure functions: models that are trained for it.

Open `reward_model.py`: it samples the start policy, has the answers compared by noisy annotators and trains a
Bradley-Terry reward model on the start policy's first layers, once per build, cached by content. The world itself, one
folder up, is hashed into every result; nothing here is.
"""
