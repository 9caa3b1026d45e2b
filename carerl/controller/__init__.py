"""Floor 6: the loops and what stands around them. The driver handles references and scalars.

=============== ===================================================================================
``launch``      from a config to a finished run and its exit code
``preparation`` task, tokenizer, what ends a response, and what a person is told before the first actor
``rl``          the reinforcement learning loop: the oracle for any pipelined one
``sft``         supervised training through the same learner; makes base models
``base``        the base model of a recipe: found in the cache, or built first
``evaluation``  the task's suites, sampled, graded and scored; entropy and divergence
``weights``     weight sync from learner to engines, and the parity probe that proves it
``checkpoints`` checkpoints that are whole or absent
``context``     what a loop holds: task, crew, trackers, display, stop flag
``schedule``    the learning rate as a function of the step
``stopping``    Ctrl-C and SIGTERM end a run at the next step, saved
=============== ===================================================================================
"""
