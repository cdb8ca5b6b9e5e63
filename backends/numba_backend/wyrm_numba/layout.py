"""The layout of tables and headers that this code is written for; see :mod:`wyrm.native_layout`. Written by ``make layout``."""

__all__ = ["LAYOUT"]

LAYOUT = "7a2c18b8c5cd1de9"
