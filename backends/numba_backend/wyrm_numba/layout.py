"""The layout of tables and headers that this code is written for; see :mod:`wyrm.native_layout`. Written by ``make layout``."""

__all__ = ["LAYOUT"]

LAYOUT = "30d288e3ff4d29ac"
