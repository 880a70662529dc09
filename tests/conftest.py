"""Settings of all tests. Triton kernels run under Triton's interpreter where there is no GPU."""

import os

import hypothesis
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is decorated; without Triton, nothing reads it

# one slow example on a busy machine is no failure
hypothesis.settings.register_profile("louder", deadline=None)
hypothesis.settings.load_profile("louder")
