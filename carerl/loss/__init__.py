"""The learner's loss: from graded groups to one number to minimise, and what is measured on the way."""
