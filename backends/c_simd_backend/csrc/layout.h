// The layout of tables and headers that this code is written for; see wyrm/native_layout.py. Written by `make layout`.
#define LAYOUT "5ffc54b8894f3412"
