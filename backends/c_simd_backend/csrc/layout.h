// The layout of tables and headers that this code is written for; see wyrm/native_layout.py. Written by `make layout`.
#define LAYOUT "a3e17309a74d30c1"
