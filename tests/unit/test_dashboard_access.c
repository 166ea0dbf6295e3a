/* Sessions of operators, how often passwords may be tried, and how many connections there may be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dashboard/gateway/access.h"

#define MINUTE 60000LL

static struct access a;
static uint8_t tokens[ACCESS_SESSIONS_MAX + 1][ACCESS_TOKEN];

static int setup(void **state)
{
	memset(&a, 0, sizeof(a));
	for (size_t i = 0; i < sizeof(tokens); i++)
		((uint8_t *)tokens)[i] = (uint8_t)(1 + i * 7 + i / ACCESS_TOKEN);
	return 0;
}

static void test_session(void **state)
{
	static const uint8_t none[ACCESS_TOKEN];
	uint8_t other[ACCESS_TOKEN];
	assert_null(access_find(&a, none, 0)); /* what nobody has opened is open to nobody */
	access_open(&a, tokens[0], 10);
	assert_non_null(access_find(&a, tokens[0], 20));
	assert_null(access_find(&a, none, 20));
	for (int i = 0; i < ACCESS_TOKEN * 8; i++) { /* each bit counts */
		memcpy(other, tokens[0], sizeof(other));
		other[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_null(access_find(&a, other, 20));
	}
	access_close(access_find(&a, tokens[0], 20));
	assert_null(access_find(&a, tokens[0], 20));
	assert_null(access_find(&a, none, 20));
}

static void test_session_ends(void **state)
{
	int64_t now = 10;
	access_open(&a, tokens[0], now);
	assert_non_null(access_find(&a, tokens[0], now + ACCESS_IDLE_MS - 1));
	assert_null(access_find(&a, tokens[0], now + ACCESS_IDLE_MS)); /* without a command */
	for (; now < 10 + ACCESS_LIFE_MS; now += 20 * MINUTE) {
		struct access_session *s = access_find(&a, tokens[0], now);
		assert_non_null(s);
		assert_true(access_command(s, now));
	}
	assert_null(access_find(&a, tokens[0], now)); /* ... and with */
}

/* One more ends the one that was used longest ago. */
static void test_sessions_are_bounded(void **state)
{
	for (int i = 0; i < ACCESS_SESSIONS_MAX; i++)
		access_open(&a, tokens[i], 100 + i);
	access_command(access_find(&a, tokens[0], 500), 500);
	access_open(&a, tokens[ACCESS_SESSIONS_MAX], 600);
	for (int i = 0; i <= ACCESS_SESSIONS_MAX; i++)
		assert_int_equal(access_find(&a, tokens[i], 700) != NULL, i != 1);
	/* One that has ended is replaced before any that lives. */
	setup(NULL);
	access_open(&a, tokens[0], 0);
	for (int i = 1; i < ACCESS_SESSIONS_MAX; i++)
		access_open(&a, tokens[i], ACCESS_IDLE_MS);
	access_open(&a, tokens[ACCESS_SESSIONS_MAX], ACCESS_IDLE_MS + 1);
	for (int i = 1; i <= ACCESS_SESSIONS_MAX; i++)
		assert_non_null(access_find(&a, tokens[i], ACCESS_IDLE_MS + 2));
}

static void test_commands_are_bounded(void **state)
{
	int n = 0;
	access_open(&a, tokens[0], 0);
	struct access_session *s = access_find(&a, tokens[0], 1);
	while (access_command(s, 1))
		n++;
	assert_int_equal(n, 30);
	assert_false(access_command(s, 400));
	assert_true(access_command(s, 501));
	assert_false(access_command(s, 502));
}

static void test_tries_of_an_address(void **state)
{
	int64_t wait_ms = 0;
	for (int i = 0; i < 5; i++)
		assert_true(access_may_try(&a, "10.0.0.1", 1, &wait_ms));
	assert_false(access_may_try(&a, "10.0.0.1", 1, &wait_ms));
	assert_in_range(wait_ms, 29999, 30001);
	assert_true(access_may_try(&a, "10.0.0.2", 1, &wait_ms)); /* nobody else's */
	assert_false(access_may_try(&a, "10.0.0.1", 29000, &wait_ms));
	assert_true(access_may_try(&a, "10.0.0.1", 30002, &wait_ms));
	assert_false(access_may_try(&a, "10.0.0.1", 30003, &wait_ms));
}

/* What one address is refused, costs the others nothing. */
static void test_tries_in_all(void **state)
{
	int64_t wait_ms = 0;
	int n = 0;
	char address[PEER_SIZE];
	for (int i = 0; i < 1000; i++)
		access_may_try(&a, "10.0.0.1", 1, &wait_ms);
	for (int i = 0; i < 2 * ACCESS_ADDRESSES_MAX; i++) {
		snprintf(address, sizeof(address), "fe80::%d", i);
		n += access_may_try(&a, address, 1, &wait_ms);
	}
	assert_int_equal(n, 15);
	assert_in_range(wait_ms, 1999, 2001);
	assert_true(access_may_try(&a, "10.0.0.9", 2002, &wait_ms));
	assert_false(access_may_try(&a, "10.0.0.9", 2002, &wait_ms));
}

static void test_peers(void **state)
{
	struct peers *p = calloc(1, sizeof(*p));
	char address[PEER_SIZE];
	assert_non_null(p);
	assert_true(peers_enter(p, "a", 4, 2));
	assert_true(peers_enter(p, "a", 4, 2));
	assert_false(peers_enter(p, "a", 4, 2)); /* of an address */
	assert_true(peers_enter(p, "b", 4, 2));
	assert_true(peers_enter(p, "c", 4, 2));
	assert_false(peers_enter(p, "d", 4, 2)); /* in all */
	peers_leave(p, "a");
	assert_true(peers_enter(p, "d", 4, 2));
	peers_leave(p, "d");
	assert_true(peers_enter(p, "a", 4, 2));
	peers_leave(p, "nobody");
	assert_int_equal(p->n, 4);
	for (const char *s = "aabc"; *s; s++)
		peers_leave(p, (char[]){*s, 0});
	assert_int_equal(p->n, 0);
	assert_int_equal(p->n_addresses, 0);
	for (int i = 0; i < PEERS_MAX + 10; i++) {
		snprintf(address, sizeof(address), "%d", i);
		assert_int_equal(peers_enter(p, address, PEERS_MAX * 2, 1), i < PEERS_MAX);
	}
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_session, setup),
		cmocka_unit_test_setup(test_session_ends, setup),
		cmocka_unit_test_setup(test_sessions_are_bounded, setup),
		cmocka_unit_test_setup(test_commands_are_bounded, setup),
		cmocka_unit_test_setup(test_tries_of_an_address, setup),
		cmocka_unit_test_setup(test_tries_in_all, setup),
		cmocka_unit_test(test_peers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
