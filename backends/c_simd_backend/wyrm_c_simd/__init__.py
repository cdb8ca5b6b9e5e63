"""The C backend of Wyrm: an interpreter over programs, with kernels for AVX2, AVX-512 and any other processor.

Importing this package loads nothing heavy; :mod:`wyrm_c_simd.backend` loads the native library.
"""

__version__ = "0.1.0"
#: Forces an instruction set; see :data:`wyrm_c_simd.backend.INSTRUCTION_SETS`.
ENVIRONMENT_VARIABLE = "WYRM_C_SIMD_INSTRUCTION_SET"
