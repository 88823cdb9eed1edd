/*
 * Whether the members' copies agree, from what they said of themselves at different moments: a hash of the state at some
 * index. Two members can be compared where they were seen at the same index.
 *
 * Pure: no members, no time. What this must not know: how the samples were got.
 */
#ifndef RAFTCTL_COMPARE_H
#define RAFTCTL_COMPARE_H

#include "daemon/entry.h"

#include <stdbool.h>
#include <stdint.h>

#define COMPARE_SAMPLES 64u /* of a member; later ones replace the oldest */

struct compare_sample {
	uint64_t index; /* 0: none */
	uint64_t hash;
};

struct compare {
	struct compare_member {
		unsigned count; /* ever added */
		struct compare_sample samples[COMPARE_SAMPLES];
	} members[RAFT_MEMBERS_MAX];
};

enum compare_verdict {
	COMPARE_SAME,	 /* at every common index, and there is one */
	COMPARE_UNKNOWN, /* no common index */
	COMPARE_DIFFERENT,
};

void compare_add(struct compare *compare, unsigned member, uint64_t index, uint64_t hash);
/* *ret_index: a common one; one where they differ, if they do. */
enum compare_verdict compare_two(const struct compare *compare, unsigned a, unsigned b, uint64_t *ret_index);
/* Whether all of these n members are the same, by way of one another; different as soon as two of them are. */
enum compare_verdict compare_all(const struct compare *compare, const unsigned *members, unsigned n);

#endif
