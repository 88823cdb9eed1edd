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

const struct kv_snapshot *kv_pins_find(struct kv_pins *pins, const struct kv_store *store, uint64_t applied)
{
	kv_pins_expire(pins, store);
	for (unsigned i = 0; i < KV_PINS_MAX; i++) {
		struct kv_pin *pin = &pins->pins[i];

		if (pin->snapshot == NULL || kv_snapshot_applied(pin->snapshot) != applied)
			continue;
		pin->asked_at = applied_of(store);
		pin->turn = ++pins->turns;
		return pin->snapshot;
	}
	return NULL;
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
