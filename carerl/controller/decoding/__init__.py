"""Has methods of inference (:mod:`carerl.inference`) answer an evaluation's questions through engines and graders.

:mod:`.plan` says what is decoded, and refuses what cannot be, before any actor starts. :mod:`.drawing` draws what the
methods ask for. :mod:`.answers` grades what was drawn, elects, and stores each question as it ends.
"""

from .answers import decode
from .plan import Plan, planned

__all__ = ["Plan", "decode", "planned"]
