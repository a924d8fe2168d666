"""`python kernels/rle/bench` is `vislab bench evaluate`."""

import sys

from vislab.__main__ import main

sys.exit(main(["bench", "evaluate", *sys.argv[1:]]))
