/* A handover as it goes, after it was asked for. */
#pragma once

#include "cli/online.h"

/* Shows how far the handover of `device` is until the device has decided, and then what; with
 * `answers` adds that to the array instead of printing it. To be prepared before the command goes
 * out, so that nothing of it is missed. -EINTR: Ctrl-C, and the handover goes on without us. */
void follow_prepare(struct online *o, const char *device);
int follow_handover(struct online *o, struct json *answers, struct err *err);
