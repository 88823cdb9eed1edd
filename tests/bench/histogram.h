/*
 * Counts of values by size, like HdrHistogram: 64 buckets for each power of two, so a percentile is right to 1.6 %
 * whatever its magnitude, and recording is a shift and an increment.
 */
#ifndef RAFT_BENCH_HISTOGRAM_H
#define RAFT_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6u
#define HISTOGRAM_BUCKETS ((64u - HISTOGRAM_SUB_BITS + 1u) << HISTOGRAM_SUB_BITS)

struct histogram {
	uint64_t count;
	uint64_t max;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *histogram, uint64_t value);
void histogram_add(struct histogram *histogram, const struct histogram *other);
/* The value that `part` (0 … 1) of all are not above; 0 when there are none. */
uint64_t histogram_percentile(const struct histogram *histogram, double part);

#endif
