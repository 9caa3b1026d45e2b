"""Preferences between steps: iterative DPO on steps with confidence, CASPO (arXiv 2605.07353). Pure.

============= =========================================================================================
file          what it has
============= =========================================================================================
``config``    the settings, section ``preference`` of a recipe; step-DPO and outcome-DPO are settings too
``records``   steps, solutions and pairs
``solutions`` makes a solution of a graded response and what the policy says of its tokens
``judges``    verdicts: by the task, by completions, by a second model's text
``pairs``     pairs that share a prefix, and the places where a runner-up is asked for
``measures``  whether the confidence of steps tells right ones from wrong ones
============= =========================================================================================

What an optimizer step does with pairs is in :mod:`carerl.loss.preferred`.
"""
