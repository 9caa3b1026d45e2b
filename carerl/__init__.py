"""carerl: reinforcement learning for language models that stay calibrated, distributed with Ray."""

__version__ = "0.1.0"
