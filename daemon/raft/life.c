/*
 * The core's life around its steps: made from what recovery found, compacted, freed.
 */
#include "internal.h"

#include <errno.h>

static void check_options(const struct raft_options *options)
{
	raft_assert(options->id != RAFT_NO_MEMBER);
	raft_assert(options->heartbeat_us > 0);
	raft_assert(options->election_timeout_min_us > options->heartbeat_us);
	raft_assert(options->election_timeout_max_us > options->election_timeout_min_us);
	raft_assert(options->election_timeout_max_us < UINT64_MAX / 4);
	raft_assert(options->promise_us <= options->election_timeout_min_us && options->promised_us < UINT64_MAX / 4);
	raft_assert(!options->lease || options->promise_us > 0);
	raft_assert(options->clock_drift_ppm < RAFT_CLOCK_DRIFT_PPM_MAX);
	raft_assert(options->batch_bytes_max > 0 && options->window_bytes_max > 0);
}

struct raft *raft_new(const struct raft_options *options, const struct raft_recovered *recovered, uint64_t now_us)
{
	struct raft *core;

	check_options(options);
	raft_assert(recovered->base_index <= recovered->commit);
	core = calloc(1, sizeof(*core));
	if (!core)
		return NULL;
	core->options = *options;
	core->random = options->seed ^ (options->id * 0x9e3779b97f4a7c15u);
	core->now_us = now_us;
	core->hard = recovered->hard_state;
	core->commit = recovered->base_index;
	core->commit_hint = recovered->commit;
	if (recovered->resetting)
		raft_writes_resume_reset(&core->writes, recovered->base_index);
	raft_log_init(&core->log, recovered->base_index, recovered->base_term);
	core->role = RAFT_LEARNER;
	if (recovered->config.n_members == 0)
		return core;
	raft_assert(!raft_config_problem(&recovered->config) && recovered->config_index <= recovered->base_index);
	if (raft_configs_reserve(&core->configs, 1) != 0)
		return raft_free(core);
	raft_configs_push(&core->configs, recovered->config_index, &recovered->config);
	return core;
}

struct raft *raft_free(struct raft *core)
{
	if (!core)
		return NULL;
	raft_log_fini(&core->log);
	free(core->reads.pending);
	free(core->reads.failed);
	free(core->configs.records);
	free(core);
	return NULL;
}

int raft_recover_entries(struct raft *core, uint64_t term, const uint32_t *sizes, uint32_t n)
{
	raft_assert(!core->started && n > 0);
	if (raft_log_reserve(&core->log, n, 1) != 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		raft_log_append(&core->log, term, sizes[i]);
	return 0;
}

int raft_recover_config(struct raft *core, uint64_t index, const struct raft_config *config)
{
	const struct raft_config_record *latest = raft_configs_latest(&core->configs);

	raft_assert(!core->started);
	raft_assert(index > core->log.base_index && index <= core->log.last_index);
	raft_assert(!latest || latest->index < index);
	if (raft_config_problem(config) || (latest && raft_config_step_problem(&latest->config, config)))
		return RAFT_E_CONFIG_INVALID;
	if (raft_configs_reserve(&core->configs, 1) != 0)
		return -ENOMEM;
	raft_configs_push(&core->configs, index, config);
	return 0;
}

void raft_start(struct raft *core, uint64_t now_us)
{
	raft_assert(!core->started && now_us >= core->now_us);
	raft_assert(core->commit_hint <= core->log.last_index);
	raft_assert(core->hard.term >= raft_log_last_term(&core->log)); /* the term is never behind the log */
	core->started = true;
	core->now_us = now_us;
	core->commit = core->commit_hint;
	core->writes.durable_index = core->log.last_index;
	raft_promise_recover(core);
	raft_adopt_config(core);
	if (!raft_may_campaign(core))
		core->election_deadline_us = UINT64_MAX;
	else if (raft_leads_alone(core))
		core->election_deadline_us = now_us; /* nobody to wait for, unless something was promised */
	else
		raft_reset_election_timer(core);
}

void raft_compact(struct raft *core, uint64_t index)
{
	raft_assert(index <= core->commit && index <= core->writes.durable_index && !core->out);
	if (index <= core->log.base_index)
		return;
	raft_log_compact(&core->log, index);
	raft_configs_compact(&core->configs, index);
	for (unsigned i = 0; core->role == RAFT_LEADER && i < core->n_peers; i++)
		if (raft_peer_replicates(&core->peers[i]) && core->peers[i].next <= index)
			raft_need_snapshot(core, &core->peers[i]);
	raft_assert(core->log.base_index == index);
}

const struct raft_config *raft_config_at(const struct raft *core, uint64_t index, uint64_t *ret_config_index)
{
	const struct raft_config_record *record = raft_configs_at(&core->configs, index);

	raft_assert(index >= core->log.base_index && index <= core->log.last_index);
	if (!record)
		return NULL;
	*ret_config_index = record->index;
	return &record->config;
}
