/* tasuki classify --follow STATE: what libtasuki does, for programs that do not link with it, over
 * a Unix socket. docs/protocol.md, "Classification over a socket", has the messages. */
#pragma once

#include <stdbool.h>

/* Whether the arguments of `classify` ask for it. */
bool classify_socket_asked(int argc, char **argv);
/* The command with these arguments; returns its exit code. */
int classify_socket(int argc, char **argv);
