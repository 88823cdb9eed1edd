/*
 * A set of 128-bit fingerprints: the combinations that a search has visited.
 *
 * A hash table made for the purpose: the fingerprints come from XXH3 and are evenly spread, so their own low bits are the place
 * in the table, and there is nothing else to store. That is 16 bytes a slot; uthash's handle alone has 56, and wants an
 * allocation for each, which decides how large a history can be checked. It must not know what the fingerprints are of.
 */
#ifndef RAFT_KV_LIN_FINGERPRINTS_H
#define RAFT_KV_LIN_FINGERPRINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <xxhash.h>

struct lin_fingerprints {
	XXH128_hash_t *slots; /* both halves 0: free */
	size_t capacity;      /* a power of two */
	size_t count;
};

void lin_fingerprints_init(struct lin_fingerprints *set);
void lin_fingerprints_fini(struct lin_fingerprints *set);
/* False when it was there already. */
bool lin_fingerprints_add(struct lin_fingerprints *set, XXH128_hash_t fingerprint);

#endif
