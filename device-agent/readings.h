/* What the machine says of itself, for when.h: files of /proc and /sys (proc(5), and the kernel's
 * Documentation/ABI/testing/sysfs-class-power and sysfs-class-thermal). Each is read anew, at most
 * READINGS_BYTES_MAX of it; what is no plain file, or not as it is described there, counts as not
 * known. Blocks only where such a file does. */
#pragma once

#include <stdint.h>

#include "device-agent/when.h"

#define READINGS_BYTES_MAX   4096
#define READINGS_DEVICES_MAX 64 /* thermal zones, power supplies */

/* Only what c asks for; the rest is not known. `training` and `own` are left as they are. state: a
 * folder of the disk that counts; utc_ms: now. */
void readings_read(const struct when_conf *c, const char *state, int64_t utc_ms,
		   struct when_readings *ret);
