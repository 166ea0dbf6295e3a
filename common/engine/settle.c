/* The images that batch normalization's statistics are measured on: of the kind that an epoch has,
 * in an order of their own. */
#include "common/base/mem.h"
#include "common/engine/session.h"

#define SETTLE_IMAGES 2048 /* about */
#define SETTLE_SEED   0x5e771e

uint32_t settle_batches(const struct dnet *net, uint32_t epoch_images)
{
	uint32_t batch = dnet_batch(net), images = MIN_OF(epoch_images, (uint32_t)SETTLE_IMAGES);
	return (images + batch - 1) / batch;
}

int settle_feed(const struct session *s, const struct dnet *net, bool stay, uint64_t seed,
		uint64_t epoch, struct feed **ret, struct err *err)
{
	const struct feed_conf conf = {
		.data = s->data,
		.split = SPLIT_TRAIN,
		.stay = stay,
		.augment = s->augment,
		.course = {.seed = course_mix(seed, epoch, SETTLE_SEED, 0),
			   .epoch = epoch,
			   .fold = s->fold,
			   .step_images = dnet_step_images(net)},
		.batch = dnet_batch(net),
	};
	return feed_new(&conf, ret, err);
}

uint64_t settle_random(uint64_t seed, uint64_t epoch)
{
	return course_mix(seed, epoch, SETTLE_SEED, 1);
}
