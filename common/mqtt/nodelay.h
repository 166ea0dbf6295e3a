/* Nagle's algorithm holds the end of a message back until what was sent before it is acknowledged,
 * and a receiver that has nothing to say puts that off for 40 ms: every window of blocks waits for
 * it once. Paho 1.3.12 leaves it on, and does not say which socket is its own. */
#pragma once

#define NODELAY_FDS 256 /* descriptors that are looked at; a daemon has some twenty */

/* Turns it off on every TCP socket of this process that is connected to that port. */
void nodelay_to(int port);
