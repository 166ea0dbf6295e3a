/* What has been heard of a fleet, as JSON for programs and as tables for people. */
#pragma once

#include <stdio.h>

#include "cli/filter.h"

/* Caller owns. Built from the messages' own text, so that a member is named in one place only. */
struct json *view_device_json(const struct online_device *d);
struct json *view_fleet_json(const struct online *o, const struct filter *f);
/* Both tables, what is in quarantine and what is offered to everyone, within so many columns and
 * lines (0: no limit). */
void view_tables(const struct online *o, const struct filter *f, FILE *out, int width, int height,
		 bool colour);
/* "online", "offline", "unknown" */
const char *view_presence(const struct online_device *d);
/* "1.4 GB"; "-" below 0. */
#define VIEW_BYTES_MAX 16
void view_bytes(char buf[VIEW_BYTES_MAX], int64_t bytes);
