#include "device-agent/details.h"

#include <stdlib.h>
#include <string.h>

static void done(struct detail *d)
{
	free(d->per_class);
	free(d->confusion);
	outcomes_done(&d->outcomes);
}

static void remove_at(struct details *d, size_t i)
{
	d->n--;
	memmove(&d->at[i], &d->at[i + 1], sizeof(d->at[0]) * (d->n - i));
}

static size_t find(const struct details *d, const char *checkpoint, enum split split,
		   const char *snapshot)
{
	size_t i = 0;
	while (i < d->n &&
	       (d->at[i].split != split || strcmp(d->at[i].checkpoint, checkpoint) != 0 ||
		strcmp(d->at[i].snapshot, snapshot) != 0))
		i++;
	return i;
}

const struct detail *details_find(struct details *d, const char *checkpoint, enum split split,
				  const char *snapshot)
{
	size_t i = find(d, checkpoint, split, snapshot);
	if (i == d->n)
		return NULL;
	struct detail used = d->at[i];
	remove_at(d, i);
	d->at[d->n++] = used;
	return &d->at[d->n - 1];
}

void details_put(struct details *d, struct detail *add)
{
	size_t i = find(d, add->checkpoint, add->split, add->snapshot);
	if (i == d->n && d->n == DETAILS_MAX)
		i = 0;
	if (i < d->n) {
		done(&d->at[i]);
		remove_at(d, i);
	}
	d->at[d->n++] = *add;
	*add = (struct detail){0};
}

void details_done(struct details *d)
{
	while (d->n)
		done(&d->at[--d->n]);
}
