/*
 * Counts of values by size; see histogram.h.
 */
#include "tests/bench/histogram.h"

#include "daemon/assert.h"

/* Values below 2^SUB_BITS have a bucket each; above, the highest bit chooses the group and the next SUB_BITS the bucket. */
static unsigned bucket_of(uint64_t value)
{
	if (value < (1u << HISTOGRAM_SUB_BITS))
		return (unsigned)value;
	unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
	unsigned sub = (unsigned)(value >> shift) - (1u << HISTOGRAM_SUB_BITS);
	return ((shift + 1u) << HISTOGRAM_SUB_BITS) + sub;
}

/* The largest value of a bucket. */
static uint64_t bucket_top(unsigned bucket)
{
	unsigned group = bucket >> HISTOGRAM_SUB_BITS;
	uint64_t sub = bucket & ((1u << HISTOGRAM_SUB_BITS) - 1u);
	if (group == 0)
		return sub;
	unsigned shift = group - 1u;
	return (((sub + (1u << HISTOGRAM_SUB_BITS)) << shift) - 1u) + (1ull << shift);
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
	unsigned bucket = bucket_of(value);
	raft_assert(bucket < HISTOGRAM_BUCKETS);
	histogram->buckets[bucket]++;
	histogram->count++;
	if (value > histogram->max)
		histogram->max = value;
}

void histogram_add(struct histogram *histogram, const struct histogram *other)
{
	for (unsigned k = 0; k < HISTOGRAM_BUCKETS; k++)
		histogram->buckets[k] += other->buckets[k];
	histogram->count += other->count;
	if (other->max > histogram->max)
		histogram->max = other->max;
}

uint64_t histogram_percentile(const struct histogram *histogram, double part)
{
	if (histogram->count == 0)
		return 0;
	uint64_t rank = (uint64_t)((double)histogram->count * part + 0.5);
	uint64_t seen = 0;
	if (rank < 1)
		rank = 1;
	for (unsigned k = 0; k < HISTOGRAM_BUCKETS; k++) {
		seen += histogram->buckets[k];
		if (seen >= rank)
			return bucket_top(k) < histogram->max ? bucket_top(k) : histogram->max;
	}
	return histogram->max;
}
