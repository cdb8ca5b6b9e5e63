"""The layout of tables and headers that this code is written for; see :mod:`wyrm.native_layout`. Written by ``make layout``."""

__all__ = ["LAYOUT"]

LAYOUT = "5ffc54b8894f3412"
