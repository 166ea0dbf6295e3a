/* Commands from the page: a session at the broker, of an operator, and the commands whose answers
 * are awaited. On the loop's thread. */
#pragma once

#include "common/base/loop.h"
#include "common/json/json.h"
#include "dashboard/gateway/conf.h"

#define OPERATOR_PENDING_MAX 32   /* commands at a time */
#define OPERATOR_WAIT_S      5    /* for the answer of a device; a fleet's are collected so long */
#define OPERATOR_ANSWERS_MAX 4096 /* of a fleet; the others are counted */
#define OPERATOR_BYTES_MAX   (1024 * 1024) /* of all answers: one device could send any number */

struct operator;

/* Called once: {"answers": [...], "error"?: text}, taken; NULL: out of memory. */
typedef void (*operator_done_cb)(void *user, struct json *answers);

/* Connects, and keeps on. */
int operator_new(struct loop *l, const struct gateway_conf *c, struct operator** ret,
		 struct err *err);
void operator_free(struct operator* o); /* NULL allowed; calls nobody */
/* Sends {"device": id or "*", "cmd": name, ...}. -EINVAL: it is no command; -ENOTCONN: there is no
 * broker; -EBUSY; err says what was found, and `done` is not called. *ret_number is for
 * operator_forget(). */
int operator_command(struct operator* o, const struct json *wish, operator_done_cb done, void *user,
		     uint64_t *ret_number, struct err *err);
/* The command goes on; `done` is not called. */
void operator_forget(struct operator* o, uint64_t number);
