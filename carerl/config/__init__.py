"""Settings: recipes, their composition, checks, and plans. Nothing here starts anything.

================== ==============================================================================
``schema``         every setting, as dataclasses with bounds and checks beside the fields
``kinds``          what a run of each kind starts, needs and does; ``roles``: its actors
``tables``         the sections chosen by name: task, algorithm, regularizer, reward
``load``           command line -> RunConfig (``load``); to a file and back (``dump``, ``read``);
                   the settings and cache key of the base model (``base_config``, ``base_key``)
``help``           ``--help``
``evaluate``       the settings of an evaluation; ``sweep``: of a sweep; ``rehearsal``
``stored``         what is taken over from a directory's ``config.yaml``
``shapes``         a model's shape and parameter counts; ``stored_weights``: its files
``lengths``        how much of the context is the prompt's, and which questions fit
``reading/``       recipe files, ``${...}``, scalars as typed, paths, typed values
``check/``         what is refused: ``run`` before anything starts; ``at_hand`` with the model's
                   directory, the built task or the cluster at hand
``plan/``          actors, placement, batches, memory, GPU-hours; ``render`` makes text of it
================== ==============================================================================

>>> from carerl.config.load import load
>>> load(["recipe=care_grpo_tiny", "seed=107"]).seed
107

Import from the modules; this file stays empty so that ``carerl.config.schema`` is light for everyone.
"""
