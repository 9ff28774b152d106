"""What a process on a small device sets before anything large is imported."""

import os

from headwater.io.memory_glibc import spare_memory


def save_resources() -> None:
    """Makes the allocator thrifty and keeps BLAS to one thread, unless the environment says otherwise.

    An agent's matrices are small: a pool of threads costs memory per thread and spins where it waits. It has an effect
    only before numpy is imported.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    spare_memory()
