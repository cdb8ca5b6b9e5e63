// The layout of tables and headers that this code is written for; see wyrm/native_layout.py. Written by `make layout`.
#define LAYOUT "195a8e08a2094579"
