#include "device-agent/meter.h"

#include "common/base/mem.h"

#define DAY_MS (24 * 3600 * INT64_C(1000))

/* A new day begins with the clock; one that has gone back by more than a day was wrong before. */
static void turn_over(struct meter *m, int64_t utc_ms)
{
	int64_t day = utc_ms / DAY_MS;
	if (day > m->used.day || day < m->used.day - 1)
		m->used = (struct meter_day){.day = day};
}

static struct bucket_limit rate_of(const struct meter *m)
{
	return (struct bucket_limit){
		.burst = (double)MAX_OF(m->conf.rate_bytes, m->block_bytes),
		.per_s = (double)m->conf.rate_bytes,
	};
}

void meter_init(struct meter *m, const struct meter_conf *conf, const struct meter_day *kept)
{
	*m = (struct meter){.conf = *conf, .used = *kept};
}

static bool others_first(const struct meter *m, enum meter_use use)
{
	for (unsigned i = 0; i < use; i++)
		if (m->wants[i])
			return true;
	return false;
}

int64_t meter_day_wait_ms(int64_t utc_ms)
{
	return MIN_OF(DAY_MS - utc_ms % DAY_MS, METER_RECHECK_MS);
}

bool meter_covers(struct meter *m, int64_t bytes, int64_t utc_ms)
{
	turn_over(m, utc_ms);
	return !m->conf.bytes_a_day || bytes <= m->conf.bytes_a_day - m->used.bytes;
}

enum meter_answer meter_may(struct meter *m, enum meter_use use, int64_t bytes, int64_t now_ms,
			    int64_t utc_ms, int64_t *ret_wait_ms)
{
	const struct bucket_limit rate = rate_of(m);
	int64_t reserved = use == METER_FLEET ? m->reserved : 0;
	if (!meter_covers(m, bytes + reserved, utc_ms)) {
		*ret_wait_ms = meter_day_wait_ms(utc_ms);
		return METER_E_DAY;
	}
	if (!m->conf.rate_bytes)
		return METER_GO;
	if (others_first(m, use)) {
		*ret_wait_ms = 1000 * m->block_bytes / m->conf.rate_bytes + 1;
		return METER_E_RATE;
	}
	return bucket_has(&m->rate, &rate, (double)bytes, now_ms, ret_wait_ms) ? METER_GO
									       : METER_E_RATE;
}

void meter_count(struct meter *m, int64_t bytes)
{
	m->used.bytes += bytes;
	m->total += bytes;
	bucket_use(&m->rate, (double)bytes);
}

bool meter_is_kept(const struct meter *m, const struct meter_day *kept, int64_t bytes)
{
	return !m->conf.bytes_a_day ||
	       (kept->day == m->used.day && kept->bytes >= m->used.bytes + bytes);
}

struct meter_day meter_ahead(const struct meter *m, int64_t bytes)
{
	int64_t ahead = MIN_OF(METER_AHEAD_BYTES, m->conf.bytes_a_day / METER_AHEAD_SHARE);
	struct meter_day d = m->used;
	d.bytes = MAX_OF(d.bytes + bytes, MIN_OF(d.bytes + bytes + ahead, m->conf.bytes_a_day));
	return d;
}
