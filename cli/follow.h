/* tasuki classify --follow STATE: what libtasuki does, for programs that do not link with it, over a Unix
 * socket. docs/protocol.md, "Classification over a socket", has the messages. */
#pragma once

#include <stdbool.h>

/* Whether the arguments of `classify` ask for it. */
bool follow_is_asked(int argc, char **argv);
int cmd_follow(int argc, char **argv);
