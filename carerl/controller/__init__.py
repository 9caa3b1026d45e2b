"""Carries out runs. The driver holds pointers and numbers; arrays stay with the actors where they can.

==================== ==============================================================================================
``launch``           takes a config to a finished run and its exit code
``evaluate_model``   does the same for the evaluation of a model by itself
``session``          what both share: a crew on a cluster, and an end that is written down
``loops/``           what a kind of run does: ``rl`` (its phases are in ``step``), ``finetune``, ``caspo``, ``sft``
``rounds/``          the parts of a round of ``caspo``: what is gathered, who judges, what is learned
``decoding/``        answers an evaluation's questions by methods of inference
``grade_tally``      counts what could not be graded, where groups are graded a few at a time
``sampling``         samples and grades the groups of a step; ``rollout_table`` writes them down
``engine_queue``     keeps rounds of the engines queued while groups are graded
``evaluation``       samples, grades and scores the task's suites; ``decisions`` adds probabilities of options
``supervised``       trains on the task's corpus, for ``loops/sft`` and for base models
``weights``          sends weights from learner to engines, and proves that they arrived
``schedule``         the learning rate as a function of the step
``context``          what a loop holds: task, crew, trackers, display, stop flag
``preparation``      task, tokenizer, what ends a response, and what a person reads before the first actor starts
``checkpoints``      writes checkpoints that are whole or absent; ``best`` keeps the best model, ``disk`` checks room
``stopping``         turns Ctrl-C, SIGTERM and drained nodes into a saved end; ``last_words`` speaks for a killed run
``profiling``        records where the time of some steps goes
``models/``          finds, makes, fetches and caches the weights that runs start from
``sweeps/``          many runs of one plan, on workers that keep their actors
``rehearsal/``       takes a recipe through everything on this machine, made small
==================== ==============================================================================================
"""
