"""What a run takes from the sandbox: its models, prompts, oracle reward, prompt writer and `sandbox:` names.

Start with `models.py`: it builds the SFT policy, the reward model and the offline baseline, once, cached by content.
`names.py` resolves `sandbox:` names of a configuration to their files. The world itself, one folder up, is hashed into
every result; nothing here is.
"""
