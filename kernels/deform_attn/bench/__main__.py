"""`python kernels/deform_attn/bench` is `vislab bench msda`."""

import sys

from vislab.__main__ import main

sys.exit(main(["bench", "msda", *sys.argv[1:]]))
