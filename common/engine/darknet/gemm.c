/* Darknet's gemm.c in a static library: its `gemm` yields to the program's own (see
 * common/engine/gemm.h), as libdarknet.so's does to a symbol that the program exports. */
#pragma weak gemm
#include <src/gemm.c>
