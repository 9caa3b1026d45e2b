"""Settings: recipes, their composition, checks, and plans. Nothing here starts anything.

=============== =================================================================================
``schema``      every setting, as dataclasses
``load``        command line -> RunConfig (``load``); file and back (``dump``, ``read``); the base
                model's settings and cache key (``base_config``, ``base_key``); ``usage``
``scalars``     YAML whose scalars stay as they were typed; ``references``: ``${...}``
``paths``       how paths are read; ``places``: whether they can be written to
``redaction``   secrets in texts; ``terminal``: how a command ends
``tracking``    names that W&B takes
``compose``     where recipes are found and what ``extends:`` means
``validate``    values and pairings that are refused; ``load`` calls it
``task_values`` the same for the settings of the shipped tasks
``sweeps``      sweep specs, and whether a cell was run with the settings that are asked for
``checks``      what needs the model's directory, the built task or the cluster at hand
``lengths``     how much of the context is the prompt's, and which evaluation questions fit;
                ``prompts_at_hand``: what a plan and a run say of it
``plan``        actors, placement, batches, memory, GPU-hours; ``render`` makes text of it
``errors``      ``ConfigError``: field, value, reason, remedy
=============== =================================================================================

>>> from carerl.config.load import load
>>> load(["recipe=care_grpo_tiny", "seed=107"]).seed
107

Import from the modules; this file stays empty so that ``carerl.config.schema`` is light for everyone.
"""
