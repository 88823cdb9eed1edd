/*
 * The configurations that the log holds: which one is in force as of an index, and which one returns when the newest is
 * truncated.
 *
 * All of them since the base are kept, not just two: this member may not know yet that the one before the newest is
 * committed, and a snapshot may be taken at any committed index.
 *
 * Must not know: what a configuration means for anybody.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define CONFIGS_CAPACITY_MIN 4u

/* Makes room for n more, so that pushing them cannot fail. 0 or -ENOMEM. */
int raft_configs_reserve(struct raft_configs *configs, size_t n)
{
	size_t capacity = configs->capacity ? configs->capacity : CONFIGS_CAPACITY_MIN;
	struct raft_config_record *records;

	raft_assert(configs->n <= configs->capacity);
	if (n <= configs->capacity - configs->n)
		return 0;
	if (n > SIZE_MAX / 4 / sizeof(*records) - configs->n)
		return -ENOMEM;
	while (capacity < configs->n + n)
		capacity *= 2;
	records = realloc(configs->records, capacity * sizeof(*records));
	if (!records)
		return -ENOMEM;
	configs->records = records;
	configs->capacity = capacity;
	return 0;
}

void raft_configs_push(struct raft_configs *configs, uint64_t index, const struct raft_config *config)
{
	raft_assert(configs->n < configs->capacity);
	raft_assert(configs->n == 0 || configs->records[configs->n - 1].index < index);
	configs->records[configs->n].index = index;
	configs->records[configs->n].config = *config;
	configs->n++;
}

/* True: a configuration went. */
bool raft_configs_truncate(struct raft_configs *configs, uint64_t from)
{
	size_t before = configs->n;

	raft_assert(from > 0);
	while (configs->n > 0 && configs->records[configs->n - 1].index >= from)
		configs->n--;
	return configs->n != before;
}

void raft_configs_compact(struct raft_configs *configs, uint64_t index)
{
	size_t gone = 0;

	while (gone + 1 < configs->n && configs->records[gone + 1].index <= index)
		gone++;
	memmove(configs->records, configs->records + gone, (configs->n - gone) * sizeof(*configs->records));
	configs->n -= gone;
	raft_assert(configs->n < 2 || configs->records[1].index > index);
}

void raft_configs_reset(struct raft_configs *configs, uint64_t index, const struct raft_config *config)
{
	configs->n = 0;
	raft_configs_push(configs, index, config);
}

/* The one in force as of an index, or NULL. */
const struct raft_config_record *raft_configs_at(const struct raft_configs *configs, uint64_t index)
{
	for (size_t i = configs->n; i > 0; i--)
		if (configs->records[i - 1].index <= index)
			return &configs->records[i - 1];
	return NULL;
}

const struct raft_config_record *raft_configs_latest(const struct raft_configs *configs)
{
	return configs->n > 0 ? &configs->records[configs->n - 1] : NULL;
}

/* The feature level in force. */
unsigned raft_level(const struct raft *core)
{
	const struct raft_config_record *latest = raft_configs_latest(&core->configs);

	return latest ? latest->config.level : RAFT_LEVEL_MIN;
}
