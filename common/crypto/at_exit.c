#include "common/crypto/at_exit.h"

#include <openssl/crypto.h>

__attribute__((constructor)) void at_exit_keep_openssl(void)
{
	OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
}
