#include "matmul_i8/matmul_i8_vnni.h"
