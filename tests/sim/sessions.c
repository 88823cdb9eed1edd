/*
 * No command applied twice, and every answer is the right one: each index is
 * applied once to the model as well, and what a member's store answers and
 * holds afterwards must be what the model says.
 */
#include "check.h"
#include "rogue.h"

#include "daemon/assert.h"

#include "kv/command.h"
#include "kv/limits.h"

#include <inttypes.h>

static void check_reply(struct sim *sim, unsigned number, uint64_t index, const struct model_effect *effect,
			const struct kv_reply *reply)
{
	if (reply->status == effect->reply.status && reply->revision == effect->reply.revision)
		return;
	sim_fail(sim,
		 "member %u answers entry %" PRIu64 " (session %" PRIu64 ", request %" PRIu64 ") with %s %" PRIu64
		 ", it should be %s %" PRIu64,
		 number + 1, index, effect->session, effect->sequence, kv_status_name(reply->status), reply->revision,
		 kv_status_name(effect->reply.status), effect->reply.revision);
}

static void check_key(struct sim *sim, unsigned number, uint64_t index, const struct model_effect *effect,
		      const struct kv_command *command)
{
	struct kv_value value = {0};
	bool found = kv_store_get(sim->members[number].store, command->key, command->key_size, &value);
	if (found != (effect->revision > 0) ||
	    (found && (value.revision != effect->revision || model_hash(value.data, value.size) != effect->value)))
		sim_fail(sim, "member %u: after entry %" PRIu64 " the key is at revision %" PRIu64 ", not %" PRIu64,
			 number + 1, index, value.revision, effect->revision);
}

void sim_sessions_applied(struct sim *sim, unsigned number, uint64_t index, const uint8_t *data, size_t size,
			  struct kv_reply reply)
{
	struct sim_checks *checks = sim->checks;
	if (checks->members[number].retired)
		return;
	struct sim_committed *slot = sim_check_committed(sim, index);
	struct kv_command command = {0};
	bool decoded = kv_command_decode(data, size, &command) == KV_DECODE_OK;
	if (index > checks->modelled) {
		checks->modelled = index;
		model_apply(checks->model, index, data, size, &slot->effect);
		sim_clients_modelled(sim, index, (enum kv_operation)command.operation, &slot->effect);
		sim_rogue_modelled(sim, index, &command, &slot->effect.reply);
	}
	check_reply(sim, number, index, &slot->effect, &reply);
	if (decoded && command.key_size > 0)
		check_key(sim, number, index, &slot->effect, &command);
}

void sim_sessions_acknowledged(struct sim *sim, uint64_t session, uint64_t sequence, uint64_t revision)
{
	struct sim_checks *checks = sim->checks;
	const struct sim_committed *slot = revision <= checks->committed_last ? sim_committed(checks, revision) : NULL;
	if (slot == NULL || !slot->effect.changed || slot->effect.session != session ||
	    slot->effect.sequence != sequence)
		sim_fail(sim,
			 "request %" PRIu64 " of session %" PRIu64 " is acknowledged with revision %" PRIu64
			 ", which is another request's",
			 sequence, session, revision);
	sim_check_survives(sim, revision);
}

bool sim_sessions_full(const struct sim *sim)
{
	return model_sessions(sim->checks->model) == KV_SESSIONS_MAX;
}
