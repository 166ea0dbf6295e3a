/* Chooses the table of kernels for this CPU; kernels_isa.c makes one for each instruction set. */
#include "common/engine/plan/kernels.h"

#include "common/engine/plan/kernels_isa.h"

const struct kernels *kernels_for(size_t block, bool bf16)
{
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (block == 16 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
		return &kernels_avx512[bf16];
	if (block == 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return &kernels_avx2[bf16];
#endif
	return block == 8 ? &kernels_8[bf16] : NULL;
}

const struct kernels_flat *kernels_flat(void)
{
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
		return &kernels_avx512_flat;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return &kernels_avx2_flat;
#endif
	return &kernels_8_flat;
}
