"""``python -m carerl VERB …`` is ``carerl VERB …``."""

import sys

from carerl.cli import main

if __name__ == "__main__":
    sys.exit(main())
