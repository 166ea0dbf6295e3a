/* A request to `tasuki classify --follow`: one line of JSON, and how many bytes of a frame are
 * behind it (docs/operations.md). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"

#define CLASSIFY_LINE_MAX  8192               /* bytes of a request, without its frame */
#define CLASSIFY_FRAME_MAX (32 * 1024 * 1024) /* bytes */

struct classify_request {
	bool has_id, probabilities, floats, has_watch, watch;
	int64_t id, width, height, channels; /* the last three are not those of floats */
	int64_t bytes;                       /* of the frame behind it; 0: none */
	bool lost;                           /* refused, and how much is behind it is not known */
	char path[FILE_PATH_MAX];            /* absolute; "": a frame, or none */
};

/* Without the newline. Also what is refused says what is known of it (has_id, id, bytes). */
int classify_request_parse(const char *line, size_t len, struct classify_request *ret,
			   struct err *err);
