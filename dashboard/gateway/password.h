/* The one password for commands: a file with its hash, as `mkpasswd` writes it (crypt(5)). This is
 * the only door to libcrypt. */
#pragma once

#include <stdbool.h>

#include "common/base/err.h"

#define PASSWORD_MAX 256 /* bytes */

/* That the file has one line, a hash of a method that is good today. Errors name the file. */
int password_check_file(const char *path, struct err *err);
/* Whether it is the password; the file is read each time. Takes some 20 ms, as long whether it is
 * or not. -EINVAL and others as above. */
int password_verify(const char *path, const char *password, bool *ret, struct err *err);
