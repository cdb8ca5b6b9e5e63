// The layout of tables and headers that this code is written for; see wyrm/native_layout.py. Written by `make layout`.
#define LAYOUT "7a2c18b8c5cd1de9"
