"""Puts each heavy library behind a small protocol. vLLM and transformers are imported only when they are needed.

==================== ==========================================================================================
file or folder       what it does
==================== ==========================================================================================
``engines``          samples responses: the protocol and table of engines, ``vllm`` and plain transformers (``hf``)
``learners``         trains: the protocol and table of learners, ``fsdp2``; ``policy`` is the module that learner and
                     reference run, ``files`` reads checkpoints as data
``transfer``         brings weights from learner to engines, from GPU to GPU or through the host, with a digest
``models``           makes, loads and saves Hugging Face model directories
``initial``          initialises a tiny model
``drawn_model``      makes a small model of drawn weights under another model's tokenizer, for rehearsals
``gguf_model``       converts a GGUF file to a model directory
``hub``              pins models of the Hugging Face hub to a commit and downloads them
``whole_checkpoint`` refuses a model directory whose weights are missing, damaged or not finite
``cpu_ops``          speeds up small models on the CPU
``recorder``         records a profile of a process; ``recording`` holds the records
==================== ==========================================================================================
"""
