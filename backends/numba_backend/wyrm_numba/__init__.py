"""The Numba backend of Wyrm: programs as tables, walked by compiled code whose kernels Numba makes when they are first needed.

Importing this package loads nothing heavy; :mod:`wyrm_numba.backend` loads Numba.
"""

__version__ = "0.1.0"
#: Names the folder in which compiled code is kept; ``cold``: a new one for this process.
ENVIRONMENT_VARIABLE = "WYRM_NUMBA_CACHE"
