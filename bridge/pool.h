/*
 * Memory for short-lived objects of some hundred bytes to some thousand, of which a busy bridge needs a hundred
 * thousand a second: free lists by size class, bounded; what does not fit is malloc's.
 *
 * What this must not know: what is kept in it. Under AddressSanitizer everything is malloc's, so that a use after
 * free is seen.
 */
#ifndef RAFT_KV_POOL_H
#define RAFT_KV_POOL_H

#include <stddef.h>
#include <stdint.h>

#define POOL_CLASSES 8u				  /* 128 bytes to 16 KiB */
#define POOL_CLASS_BYTES_MAX (2u * 1024u * 1024u) /* kept in one class; more goes back to malloc */

struct pool_item {
	struct pool_item *next;
};
struct pool_class {
	struct pool_item *items;
	size_t bytes;
};
struct pool {
	struct pool_class classes[POOL_CLASSES];
	size_t used_bytes; /* handed out */
};

/* At least size bytes, uninitialised; *ret_capacity is what there is, and what pool_put wants. NULL: no memory. */
void *pool_get(struct pool *pool, size_t size, size_t *ret_capacity);
void pool_put(struct pool *pool, void *memory, size_t capacity); /* NULL is fine */
void pool_fini(struct pool *pool);

#endif
