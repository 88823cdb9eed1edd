/*
 * What becomes of writes that their clients no longer wait for. The log decides it, sooner or later, and then the history is
 * told: a history with few operations of unknown fate is quick to check, and says more.
 *
 * A write is decided when it, or another one in its place, is applied. It has certainly failed when the log is committed
 * beyond every place at which any member ever appended it, and nobody will send it again.
 */
#include "client.h"

#include "check.h"
#include "history.h"

#include "daemon/assert.h"
#include "kv/command.h"

#include <stdlib.h>

struct fate {
	uint64_t session, sequence;
	enum kv_operation operation;
	uint64_t history;
	uint64_t place; /* the last index at which it may have been appended */
};

struct sim_fates {
	struct fate *fates;
	uint64_t n, capacity;
};

void client_fates_new(struct sim *sim)
{
	sim->fates = calloc(1, sizeof *sim->fates);
	raft_assert(sim->fates != NULL);
}

void client_fates_free(struct sim *sim)
{
	if (sim->fates != NULL)
		free(sim->fates->fates);
	free(sim->fates);
	sim->fates = NULL;
}

enum kv_operation client_operation(const struct request *request)
{
	static const enum kv_operation operations[] = {[REQUEST_REGISTER] = KV_REGISTER,
						       [REQUEST_PUT] = KV_PUT,
						       [REQUEST_DELETE] = KV_DELETE,
						       [REQUEST_CAS] = KV_CAS,
						       [REQUEST_NOTHING] = KV_NOTHING};
	return operations[request->kind];
}

/* The command was carried out, now or before; not refused. */
static bool is_carried_out(const struct kv_reply *reply)
{
	return reply->status == KV_OK || reply->status == KV_NOT_FOUND || reply->status == KV_CAS_MISMATCH;
}

static void tell_history(struct sim *sim, uint64_t history, const struct kv_reply *reply)
{
	enum lin_outcome outcome = LIN_OK;
	if (reply->status == KV_NOT_FOUND)
		outcome = LIN_NOT_FOUND;
	else if (reply->status == KV_CAS_MISMATCH)
		outcome = LIN_MISMATCH;
	sim_history_return(sim, history, outcome, 0, reply->revision);
}

static void tell_failure(struct sim *sim, uint64_t history)
{
	sim_history_return(sim, history, LIN_FAILED, 0, LIN_REVISION_NONE);
}

static bool may_be_sent_again(const struct sim *sim, uint64_t session, uint64_t sequence)
{
	for (unsigned k = 0; k < sim->plan.clients; k++)
		if (sim->clients[k].ghost.session == session && sim->clients[k].ghost.sequence == sequence)
			return true;
	return false;
}

void client_leave(struct sim *sim, const struct request *request)
{
	struct sim_fates *fates = sim->fates;
	if (request->kind == REQUEST_REGISTER || request->kind == REQUEST_NOTHING)
		return;
	bool nowhere = request->place == 0 && !may_be_sent_again(sim, request->session, request->sequence);
	if (request_reads(request) || nowhere) {
		tell_failure(sim, request->history);
		return;
	}
	if (request->carried_out) {
		tell_history(sim, request->history, &request->reply);
		return;
	}
	fates->fates = sim_check_grow(fates->fates, &fates->capacity, fates->n, sizeof *fates->fates);
	fates->fates[fates->n++] = (struct fate){.session = request->session,
						 .sequence = request->sequence,
						 .operation = client_operation(request),
						 .history = request->history,
						 .place = request->place};
}

void client_sent_again(struct sim *sim, const struct request *ghost, uint64_t place)
{
	struct sim_fates *fates = sim->fates;
	for (uint64_t k = 0; k < fates->n; k++)
		if (fates->fates[k].session == ghost->session && fates->fates[k].sequence == ghost->sequence &&
		    fates->fates[k].place < place)
			fates->fates[k].place = place;
}

/* True: it is decided. */
static bool decide(struct sim *sim, const struct fate *fate, uint64_t index, enum kv_operation operation,
		   const struct model_effect *effect)
{
	bool applied = effect->session == fate->session && effect->sequence == fate->sequence &&
		       is_carried_out(&effect->reply);
	if (!applied && (index <= fate->place || may_be_sent_again(sim, fate->session, fate->sequence)))
		return false;
	if (applied && operation == fate->operation)
		tell_history(sim, fate->history, &effect->reply);
	else
		tell_failure(sim, fate->history);
	return true;
}

static void note_open(struct sim *sim, const struct model_effect *effect)
{
	for (unsigned c = 0; c < sim->plan.clients; c++) {
		struct sim_client *client = &sim->clients[c];
		for (unsigned k = 0; k < client->n_requests && client->session == effect->session; k++) {
			struct request *request = &client->requests[k];
			if (request_reads(request) || request->sequence != effect->sequence)
				continue;
			request->carried_out = true;
			request->reply = effect->reply;
		}
	}
}

void sim_clients_modelled(struct sim *sim, uint64_t index, enum kv_operation operation,
			  const struct model_effect *effect)
{
	struct sim_fates *fates = sim->fates;
	uint64_t kept = 0;
	for (uint64_t k = 0; k < fates->n; k++)
		if (!decide(sim, &fates->fates[k], index, operation, effect))
			fates->fates[kept++] = fates->fates[k];
	fates->n = kept;
	if (effect->session != 0 && is_carried_out(&effect->reply))
		note_open(sim, effect);
}
