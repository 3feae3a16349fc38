// As avx512_vnni, with bf16 results rounded in one instruction.
#include "matmul_i8/matmul_i8_vnni.h"
