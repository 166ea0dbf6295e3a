/* Certificates of the agents and trainers of a history. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it; pki_util.h asserts with it. */
#include <cmocka.h>

#include "tests/unit/pki_util.h"

#include "tests/sim/soak.h"

bool sim_secure;
static struct pki pki;

void sim_identity_begin(const char *dir)
{
	char folder[FILE_PATH_MAX];

	if (!sim_secure)
		return;
	snprintf(folder, sizeof(folder), "%s/pki", dir);
	file_mkdirs(folder, NULL);
	pki_init(&pki, folder);
}

void sim_identity_end(void)
{
	if (sim_secure)
		pki_done(&pki);
}

void sim_identity(enum role role, const char *name, struct identity_paths *ret)
{
	if (sim_secure)
		pki_issue(&pki, role, name, ret);
}
