/* What a message tells that was not known before, as lines for people. Pure. `before` NULL: nothing
 * was known. */
#pragma once

#include "common/protocol/message.h"

/* `what`: a word for programs, "phase"; `text` is one line. */
typedef void lines_emit(void *user, const char *what, const char *text);

void lines_presence(const struct msg_presence *before, const struct msg_presence *m,
		    lines_emit *emit, void *user);
void lines_status(const struct msg_status *before, const struct msg_status *m, lines_emit *emit,
		  void *user);
void lines_report(const struct msg_report *m, lines_emit *emit, void *user);
void lines_trainer(const struct msg_trainer_status *before, const struct msg_trainer_status *m,
		   lines_emit *emit, void *user);
void lines_job(const struct msg_job *before, const struct msg_job *m, lines_emit *emit, void *user);
void lines_fleet(const struct msg_fleet *m, lines_emit *emit, void *user);
