"""The rates and shares that a plan assumes. A plan prints the ones that it counts with."""

# [ours] How much of a data sheet's rate is reached
MFU_TRAIN = 0.35  # of the bfloat16 rate, in the learner's layers: padded micro-batches, sharded, not compiled
MFU_SCORE = 0.45  # of the bfloat16 rate, in a forward pass of the reference's layers
FP32_SUSTAINED = 0.75  # of the float32 rate, in the head's products where it is not bfloat16
BF16_HEAD = 0.4  # of the bfloat16 rate, where it is: half of the time goes to reading and writing the chunk's logits
DECODE_EFFICIENCY = 0.5  # of a decode step's physical limit
LINK_EFFICIENCY = 0.7  # of the link between GPUs
# [ours] What a batch looks like
MEAN_RESPONSE = 0.4  # of rollout.max_new_tokens
MEAN_PROMPT = 0.15  # of what the lengths leave for a prompt
# tokens with padding to tokens, in micro-batches of rows of like length: in the learner, and in the reference, where it
# was measured on lognormal lengths at 16 rows
PADDED, PADDED_REFERENCE = 1.07, 1.25
# [ours] The engine's own Python, in the process that decodes: it fits 8 ms for 256 sequences
STEP_S, SEQUENCE_S = 2e-3, 23e-6  # a decode step, and each of its sequences
# GB/s of one core, measured by tests/benchmarks/sync_stages.py on a core of an AMD EPYC, torch 2.13
COPY, DIGEST, PICKLE, UNPICKLE = 16.0, 8.0, 1.1, 1.15
# [ours] GB/s, not measured here
TO_HOST = 2.5  # from a GPU to pageable memory, by every rank of a node at one time
TO_HOST_ALONE = 6.0  # by one rank
PINNED = 20.0  # between a GPU and pinned memory, in either direction, by every rank of a node at one time
TO_GPU = 5.0  # from pageable memory to a GPU
STORE = 4.0  # a copy into Ray's object store
NETWORK = 2.0  # one object from node to node
FABRIC = 50.0  # a GPU's own share of the network between nodes
DISK = 1.0  # of the shared file system
TURN_S = 1.0  # [ours] until an engine sleeps and wakes again: its memory is unmapped and mapped
TABLE_S = 1e-5  # a token of a rollout table, in the driver
