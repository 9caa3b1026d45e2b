"""Floor 4: one heavy library a file, behind a small protocol.

=================== =============================================================
file                what stands behind the protocol
=================== =============================================================
``engines``         the :class:`~carerl.backends.engines.base.Engine` protocol and the table of engines
``vllm_engine``     vLLM in this process
``hf_engine``       plain transformers: the oracle in tests, the fallback where vLLM has no build
``learners``        the :class:`~carerl.backends.learners.base.Learner` protocol and the table of learners
``fsdp2``           the learner, sharded by PyTorch's ``fully_shard``
``policy``          the module that all learners and the reference run: decoder plus chunked head
``model_files``     Hugging Face directories: make, load, save
``weight_sync``     buckets of named tensors and their checksums
``grader_pool``     graders in processes that can be ended (``grader_worker``: what runs in them)
=================== =============================================================
"""
