/* OpenSSL cleans itself up when a process ends, also beneath threads that are in the midst of it,
 * as Paho's may be: a program that had ended its session then died of SIGSEGV, once in a hundred
 * times. What this file is linked into does without that; the kernel takes all back anyway. */
#pragma once

/* Acts before main(), as it must come before any other use of OpenSSL; called, it does no more. */
void at_exit_keep_openssl(void);
