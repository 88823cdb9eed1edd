/*
 * Which operation comes next; see workload.h.
 */
#include "tests/bench/workload.h"

#include "daemon/assert.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Windows of the text begin at any of so many places: enough that neighbours differ. */
#define WINDOWS 4096u

/* xoroshiro128+ (Blackman, Vigna): fast, and good enough for choosing keys. */
static uint64_t next_random(uint64_t random[2])
{
	uint64_t a = random[0];
	uint64_t b = random[1];
	uint64_t result = a + b;
	b ^= a;
	random[0] = ((a << 24) | (a >> 40)) ^ b ^ (b << 16);
	random[1] = (b << 37) | (b >> 27);
	return result;
}

static uint64_t mix(uint64_t x) /* splitmix64's finaliser: a permutation of 64-bit numbers */
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* A uniform number below n, without division (Lemire); its bias is below 2^-40 for any n that fits here. */
static uint64_t below(uint64_t random[2], uint64_t n)
{
	return (uint64_t)(((unsigned __int128)next_random(random) * n) >> 64);
}

static double zeta(uint64_t n, double theta)
{
	double sum = 0;
	for (uint64_t k = 1; k <= n; k++)
		sum += 1.0 / pow((double)k, theta);
	return sum;
}

int workload_init(struct workload *workload, const struct bench_options *options)
{
	*workload = (struct workload){.options = options, .random = {mix(options->seed + 1), mix(options->seed + 2)}};
	workload->text_size = options->value_size + WINDOWS;
	workload->text = malloc(workload->text_size);
	if (workload->text == NULL)
		return -ENOMEM;
	static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	for (size_t k = 0; k < workload->text_size; k++)
		workload->text[k] = (uint8_t)letters[below(workload->random, sizeof letters - 1)];
	if (options->distribution == BENCH_ZIPF) {
		double theta = options->zipf_theta;
		workload->zeta_n = zeta(options->keys, theta);
		workload->zeta_2 = zeta(2, theta);
		workload->alpha = 1.0 / (1.0 - theta);
		workload->eta = (1.0 - pow(2.0 / (double)options->keys, 1.0 - theta)) /
				(1.0 - workload->zeta_2 / workload->zeta_n);
	}
	return 0;
}

void workload_fini(struct workload *workload)
{
	free(workload->text);
	workload->text = NULL;
}

/* Gray et al., "Quickly generating billion-record synthetic databases": rank 0 is the most popular one. */
static uint64_t next_zipf_rank(struct workload *workload)
{
	double u = (double)(next_random(workload->random) >> 11) * 0x1p-53;
	double scaled = u * workload->zeta_n;
	if (scaled < 1.0)
		return 0;
	if (scaled < workload->zeta_2)
		return 1;
	return (uint64_t)((double)workload->options->keys *
			  pow(workload->eta * u - workload->eta + 1.0, workload->alpha));
}

static uint64_t next_key(struct workload *workload)
{
	uint64_t keys = workload->options->keys;
	switch (workload->options->distribution) {
	case BENCH_SEQUENTIAL:
		return workload->next++ % keys;
	case BENCH_UNIFORM:
		return below(workload->random, keys);
	case BENCH_ZIPF:
		break;
	}
	/* Scattered, so that popular keys are no neighbours in the store. Two ranks may share a key: the skew stays. */
	return mix(next_zipf_rank(workload)) % keys;
}

void workload_next(struct workload *workload, struct workload_op *ret_op)
{
	unsigned percent = workload->options->get_percent;
	ret_op->get = percent == 100 || (percent > 0 && below(workload->random, 100) < percent);
	ret_op->key = next_key(workload);
	ret_op->value = workload->text + below(workload->random, WINDOWS);
	raft_assert(ret_op->key < workload->options->keys);
}

/* "k", then the number in decimal with leading zeros. */
void workload_write_key(const struct workload *workload, uint64_t key, uint8_t *buf)
{
	size_t size = workload->options->key_size;
	raft_assert(size >= BENCH_KEY_SIZE_MIN);
	buf[0] = 'k';
	for (size_t k = size; k > 1; k--) {
		buf[k - 1] = (uint8_t)('0' + key % 10u);
		key /= 10u;
	}
}
