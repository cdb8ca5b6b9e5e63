// The layout of tables and headers that this code is written for; see wyrm/native_layout.py. Written by `make layout`.
#define LAYOUT "30d288e3ff4d29ac"
