/* What runs programs instead of the processor, and cannot do all that one does. A test that needs
 * that is left out, by name. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");
	return preload && strstr(preload, "vgpreload");
}

/* Says what qemu-user cannot do, where it runs the program (see tests/meson.build). */
static inline bool under_qemu(const char *cannot)
{
	bool yes = getenv("QEMU_LD_PREFIX") != NULL;
	if (yes)
		print_message("qemu-user cannot %s\n", cannot);
	return yes;
}
