/* Open addressing, at most half full. */
#include "tests/linearizability/fingerprints.h"

#include "tests/linearizability/register.h"

#include <stdlib.h>

#define CAPACITY_MIN 256u

void lin_fingerprints_init(struct lin_fingerprints *set)
{
	*set = (struct lin_fingerprints){.slots = lin_alloc(CAPACITY_MIN, sizeof *set->slots),
					 .capacity = CAPACITY_MIN};
}

void lin_fingerprints_fini(struct lin_fingerprints *set)
{
	free(set->slots);
	*set = (struct lin_fingerprints){0};
}

/* The slot that holds it, or the free one where it belongs. */
static XXH128_hash_t *find(XXH128_hash_t *slots, size_t capacity, XXH128_hash_t fingerprint)
{
	size_t k = (size_t)fingerprint.low64 & (capacity - 1);
	while ((slots[k].low64 | slots[k].high64) != 0 && !XXH128_isEqual(slots[k], fingerprint))
		k = (k + 1) & (capacity - 1);
	return &slots[k];
}

static void grow(struct lin_fingerprints *set)
{
	size_t capacity = 2 * set->capacity;
	XXH128_hash_t *slots = lin_alloc(capacity, sizeof *slots);
	for (size_t k = 0; k < set->capacity; k++)
		if ((set->slots[k].low64 | set->slots[k].high64) != 0)
			*find(slots, capacity, set->slots[k]) = set->slots[k];
	free(set->slots);
	set->slots = slots;
	set->capacity = capacity;
}

bool lin_fingerprints_add(struct lin_fingerprints *set, XXH128_hash_t fingerprint)
{
	if ((fingerprint.low64 | fingerprint.high64) == 0)
		fingerprint.high64 = 1;
	if (2 * (set->count + 1) > set->capacity)
		grow(set);
	XXH128_hash_t *slot = find(set->slots, set->capacity, fingerprint);
	if ((slot->low64 | slot->high64) != 0)
		return false;
	*slot = fingerprint;
	set->count++;
	return true;
}
