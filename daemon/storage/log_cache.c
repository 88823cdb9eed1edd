/*
 * The entries kept in memory.  See log_cache.h.
 */
#include "daemon/storage/log_cache.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK_BYTES ((size_t)64 * 1024) /* with its header; a larger write gets a chunk of its own */
#define RING_MIN 64u

/* Every entry belongs to the chunk that was the newest when it was added, even one without data. */
struct log_chunk {
	struct log_chunk *next; /* towards the newest */
	struct log_chunk *prev;
	size_t live; /* entries in it */
	size_t used;
	size_t capacity;
	_Alignas(8) uint8_t data[];
};

#define CHUNK_CAPACITY (CHUNK_BYTES - sizeof(struct log_chunk))

/* Chunks are mapped, not allocated: what a burst leaves behind goes back to the system, and is not kept in the heap
 * under whatever was allocated after it. In the steady state one chunk empties as another fills, and is reused. */
static struct log_chunk *chunk_new(size_t capacity)
{
	if (capacity < CHUNK_CAPACITY)
		capacity = CHUNK_CAPACITY;
	struct log_chunk *chunk =
		mmap(NULL, sizeof(*chunk) + capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (chunk == MAP_FAILED)
		return NULL;
	chunk->capacity = capacity; /* the rest is zero */
	return chunk;
}

static void chunk_free(struct log_chunk *chunk)
{
	if (chunk)
		(void)munmap(chunk, sizeof(*chunk) + chunk->capacity);
}

static size_t padded_size(uint32_t size)
{
	return ((size_t)size + 7u) & ~(size_t)7u;
}

static uint64_t held_bytes(const struct raft_entry *entry)
{
	return entry->size + sizeof(*entry);
}

void log_cache_init(struct log_cache *cache, uint64_t next_index)
{
	*cache = (struct log_cache){.next_index = next_index};
}

void log_cache_fini(struct log_cache *cache)
{
	for (struct log_chunk *chunk = cache->oldest; chunk;) {
		struct log_chunk *next = chunk->next;
		chunk_free(chunk);
		chunk = next;
	}
	chunk_free(cache->reserve);
	free(cache->ring);
	log_cache_init(cache, 0);
}

static int ring_resize(struct log_cache *cache, size_t capacity)
{
	raft_assert((capacity & (capacity - 1)) == 0);
	raft_assert(capacity >= cache->count);
	struct raft_entry *ring = reallocarray(NULL, capacity, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	for (size_t i = 0; i < cache->count; i++)
		ring[i] = cache->ring[(cache->head + i) & (cache->capacity - 1)];
	free(cache->ring);
	cache->ring = ring;
	cache->capacity = capacity;
	cache->head = 0;
	return 0;
}

int log_cache_reserve(struct log_cache *cache, size_t n_entries, size_t data_bytes)
{
	size_t need = cache->count;
	if (n_entries > SIZE_MAX / 4 - need || data_bytes > SIZE_MAX / 2)
		return -ENOMEM;
	need += n_entries;
	size_t capacity = cache->capacity > 0 ? cache->capacity : RING_MIN;
	while (capacity < need)
		capacity *= 2;
	if (capacity != cache->capacity && ring_resize(cache, capacity) < 0)
		return -ENOMEM;

	/* A cut may come before the entries do, and then the newest chunk is another one: keep a reserve always. */
	if (cache->reserve && cache->reserve->capacity >= data_bytes)
		return 0;
	struct log_chunk *chunk = chunk_new(data_bytes);
	if (!chunk)
		return -ENOMEM;
	chunk_free(cache->reserve);
	cache->reserve = chunk;
	return 0;
}

static void use_reserve(struct log_cache *cache)
{
	struct log_chunk *chunk = cache->reserve;
	raft_assert(chunk && chunk->live == 0);
	cache->reserve = NULL;
	chunk->used = 0;
	chunk->next = NULL;
	chunk->prev = cache->newest;
	if (cache->newest)
		cache->newest->next = chunk;
	else
		cache->oldest = chunk;
	cache->newest = chunk;
}

/* Unlinks an empty chunk; one of the common size becomes the reserve. */
static void drop_chunk(struct log_cache *cache, struct log_chunk *chunk)
{
	raft_assert(chunk->live == 0);
	if (chunk->prev)
		chunk->prev->next = chunk->next;
	else
		cache->oldest = chunk->next;
	if (chunk->next)
		chunk->next->prev = chunk->prev;
	else
		cache->newest = chunk->prev;
	if (!cache->reserve && chunk->capacity == CHUNK_CAPACITY)
		cache->reserve = chunk;
	else
		chunk_free(chunk);
}

void log_cache_add(struct log_cache *cache, const struct raft_entry *entry)
{
	size_t bytes = padded_size(entry->size);
	raft_assert(cache->count < cache->capacity);
	if (!cache->newest || cache->newest->capacity - cache->newest->used < bytes)
		use_reserve(cache);
	struct log_chunk *chunk = cache->newest;
	raft_assert(chunk->capacity - chunk->used >= bytes);

	uint8_t *data = chunk->data + chunk->used;
	if (entry->size > 0)
		memcpy(data, entry->data, entry->size);
	chunk->used += bytes;
	chunk->live++;
	struct raft_entry *slot = &cache->ring[(cache->head + cache->count) & (cache->capacity - 1)];
	*slot = *entry;
	slot->data = data;
	cache->count++;
	cache->next_index++;
	cache->bytes += held_bytes(entry);
}

void log_cache_cut(struct log_cache *cache, uint64_t index)
{
	raft_assert(index < UINT64_MAX);
	while (cache->count > 0 && cache->next_index > index + 1) {
		struct log_chunk *chunk = cache->newest;
		struct raft_entry *last = &cache->ring[(cache->head + cache->count - 1) & (cache->capacity - 1)];
		raft_assert(chunk && chunk->live > 0);
		cache->bytes -= held_bytes(last);
		cache->count--;
		cache->next_index--;
		chunk->live--;
		chunk->used = (size_t)(last->data - chunk->data);
		if (chunk->live == 0)
			drop_chunk(cache, chunk);
	}
	if (cache->next_index > index + 1 || cache->count == 0)
		cache->next_index = index + 1;
	raft_assert(cache->next_index == index + 1);
}

void log_cache_begin(struct log_cache *cache, uint64_t next_index)
{
	if (cache->count > 0)
		log_cache_cut(cache, log_cache_first(cache) - 1);
	raft_assert(cache->count == 0);
	cache->next_index = next_index;
}

void log_cache_evict(struct log_cache *cache, uint64_t index, uint64_t bytes_max)
{
	while (cache->count > 0 && cache->bytes > bytes_max && log_cache_first(cache) <= index) {
		struct log_chunk *chunk = cache->oldest;
		struct raft_entry *first = &cache->ring[cache->head];
		raft_assert(chunk && chunk->live > 0);
		cache->bytes -= held_bytes(first);
		cache->head = (cache->head + 1) & (cache->capacity - 1);
		cache->count--;
		chunk->live--;
		if (chunk->live == 0)
			drop_chunk(cache, chunk);
	}
	raft_assert(cache->count > 0 || cache->bytes == 0);
}

void log_cache_shrink(struct log_cache *cache)
{
	if (cache->reserve && cache->reserve->capacity > CHUNK_CAPACITY) {
		chunk_free(cache->reserve);
		cache->reserve = NULL;
	}
	/* Far below the next doubling, so that it does not swing. Without memory it stays as large as it is. */
	if (cache->capacity > RING_MIN * 16 && cache->count < cache->capacity / 8)
		(void)ring_resize(cache, cache->capacity / 4);
}

const struct raft_entry *log_cache_get(const struct log_cache *cache, uint64_t index)
{
	if (index >= cache->next_index || index < log_cache_first(cache))
		return NULL;
	size_t at = (size_t)(index - log_cache_first(cache));
	raft_assert(at < cache->count);
	return &cache->ring[(cache->head + at) & (cache->capacity - 1)];
}
