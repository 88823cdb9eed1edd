/*
 * Snapshots that are kept between the pages of a dump. See pins.h.
 */
#include "kv/pins.h"

#include "daemon/assert.h"

static uint64_t applied_of(const struct kv_store *store)
{
	struct kv_stats stats;

	kv_store_stats(store, &stats);
	return stats.applied;
}

static void drop(struct kv_pin *pin)
{
	kv_snapshot_stream_free(pin->stream);
	kv_snapshot_free(pin->snapshot);
	*pin = (struct kv_pin){.snapshot = NULL};
}

static bool is_too_old(const struct kv_pin *pin, uint64_t applied)
{
	raft_assert(applied >= pin->asked_at);
	return applied - pin->asked_at > KV_PIN_IDLE_ENTRIES_MAX ||
	       applied - kv_snapshot_applied(pin->snapshot) > KV_PIN_ENTRIES_MAX;
}

void kv_pins_init(struct kv_pins *pins)
{
	*pins = (struct kv_pins){.turns = 0};
}

void kv_pins_fini(struct kv_pins *pins)
{
	for (unsigned i = 0; i < KV_PINS_MAX; i++)
		drop(&pins->pins[i]);
}

void kv_pins_expire(struct kv_pins *pins, const struct kv_store *store)
{
	uint64_t applied = applied_of(store);

	for (unsigned i = 0; i < KV_PINS_MAX; i++)
		if (pins->pins[i].snapshot != NULL && is_too_old(&pins->pins[i], applied))
			drop(&pins->pins[i]);
}

static struct kv_pin *find(struct kv_pins *pins, const struct kv_store *store, uint64_t applied)
{
	kv_pins_expire(pins, store);
	for (unsigned i = 0; i < KV_PINS_MAX; i++) {
		struct kv_pin *pin = &pins->pins[i];

		if (pin->snapshot == NULL || kv_snapshot_applied(pin->snapshot) != applied)
			continue;
		pin->asked_at = applied_of(store);
		pin->turn = ++pins->turns;
		return pin;
	}
	return NULL;
}

const struct kv_snapshot *kv_pins_find(struct kv_pins *pins, const struct kv_store *store, uint64_t applied)
{
	const struct kv_pin *pin = find(pins, store, applied);

	return pin == NULL ? NULL : pin->snapshot;
}

const struct kv_snapshot *kv_pins_take(struct kv_pins *pins, struct kv_store *store)
{
	uint64_t applied = applied_of(store);
	const struct kv_snapshot *known = kv_pins_find(pins, store, applied);
	struct kv_snapshot *snapshot;
	struct kv_pin *oldest = &pins->pins[0]; /* a free one has turn 0 */

	if (known != NULL)
		return known;
	snapshot = kv_store_snapshot(store);
	if (snapshot == NULL)
		return NULL;
	for (unsigned i = 1; i < KV_PINS_MAX; i++)
		if (pins->pins[i].turn < oldest->turn)
			oldest = &pins->pins[i];
	drop(oldest);
	*oldest = (struct kv_pin){.snapshot = snapshot, .asked_at = applied, .turn = ++pins->turns};
	return snapshot;
}

/* Moves the stream to the offset, or nearer to it. */
static int seek(struct kv_pin *pin, uint64_t offset, uint8_t *buf, size_t capacity)
{
	uint64_t skipped = 0;

	if (pin->stream == NULL || pin->offset > offset) {
		kv_snapshot_stream_free(pin->stream);
		pin->stream = kv_snapshot_stream_new(pin->snapshot);
		pin->offset = 0;
	}
	if (pin->stream == NULL)
		return KV_PINS_MEMORY;
	while (pin->offset < offset && skipped < KV_PIN_SKIP_MAX) {
		uint64_t left = offset - pin->offset;
		size_t size = kv_snapshot_stream_read(pin->stream, buf, left < capacity ? (size_t)left : capacity);

		raft_assert(size > 0); /* the stream is longer than the offset */
		pin->offset += size;
		skipped += size;
	}
	return pin->offset == offset ? KV_PINS_OK : KV_PINS_AGAIN;
}

int kv_pins_read(struct kv_pins *pins, const struct kv_store *store, uint64_t applied, uint64_t offset, uint8_t *buf,
		 size_t capacity, size_t *ret_size)
{
	struct kv_pin *pin = find(pins, store, applied);

	raft_assert(capacity > 0);
	*ret_size = 0;
	if (pin == NULL || offset > kv_snapshot_stream_size(pin->snapshot))
		return KV_PINS_GONE;
	int r = seek(pin, offset, buf, capacity);
	if (r != KV_PINS_OK)
		return r;
	*ret_size = kv_snapshot_stream_read(pin->stream, buf, capacity);
	pin->offset += *ret_size;
	return KV_PINS_OK;
}
