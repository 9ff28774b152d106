"""What a process on a small device sets before anything large is imported."""

import os

from headwater.io.memory_glibc import spare_memory


def keep_to_one_thread() -> None:
    """Keeps BLAS to one thread, unless the environment says otherwise; has an effect only before numpy is imported.

    Our matrices are small: a pool of threads costs memory per thread and spins where it waits.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def save_resources() -> None:
    """Does that, and makes the allocator thrifty: for a small device."""
    keep_to_one_thread()
    spare_memory()
