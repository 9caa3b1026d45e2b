"""Brings weights from the learner to the engines: ``buckets`` cuts them up and proves that all arrived."""
