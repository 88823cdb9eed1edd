/*
 * What operators ask of a member: the membership and its changes, founding, snapshots, backups. What this must not know:
 * elections, the disk.
 */
#include "answers.h"
#include "server.h"

#include "daemon/assert.h"
#include "kv/admin.h"

#include <errno.h>
#include <string.h>

_Static_assert((int)KV_CHANGE_ADD == (int)REPLICATOR_ADD && (int)KV_CHANGE_REMOVE == (int)REPLICATOR_REMOVE &&
		       (int)KV_CHANGE_PROMOTE == (int)REPLICATOR_PROMOTE && (int)KV_CHANGE_MOVE == (int)REPLICATOR_MOVE,
	       "the same numbers");

/* A definite no, with words for the operator. */
static void refuse(struct server *server, struct client *client, uint64_t id, const char *text)
{
	struct kv_answer_body answer = {.answer = KV_ANSWER_REFUSED,
					.number = server->status.leader,
					.term = server->status.term,
					.data = (const uint8_t *)text,
					.size = (uint32_t)strlen(text)};
	clients_answer(&server->clients, client, id, &answer, false);
}

static void answer_members(struct server *server, struct client *client, uint64_t id)
{
	struct replicator_membership from;
	struct kv_membership to;
	replicator_get_membership(server->replicator, &from);
	answers_membership(&from, &to);
	size_t size = kv_membership_size(&to);
	uint8_t *data = clients_answer_data(&server->clients, client, id, (uint32_t)size);
	if (data != NULL)
		kv_membership_encode(data, &to);
}

static const char *refusal(int result)
{
	switch (result) {
	case REPLICATOR_E_PENDING:
		return "another change of the membership is not committed yet; try again";
	case REPLICATOR_E_NOT_READY:
		return "the leader has just been elected; try again";
	case REPLICATOR_E_BUSY:
		return "too few members answer: the change could not be committed; bring members back first";
	case REPLICATOR_E_STALE:
		return "the membership has changed meanwhile; look at it again with 'raftctl member list'";
	case REPLICATOR_E_DISK_FULL:
		return "the leader's disk is full";
	case REPLICATOR_E_MEMBERSHIP:
		return "impossible: add names a new id; remove, promote and move one that is there; the last voter "
		       "stays";
	case -EINVAL:
		return "an endpoint is too long";
	default:
		return "the leader cannot do this now; its journal says more";
	}
}

static void take_change(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	struct kv_change from;
	uint64_t index = 0;
	if (!kv_change_decode(item->body, item->size, &from)) {
		clients_answer_plain(&server->clients, client, item->id, KV_ANSWER_BAD_REQUEST, 0, false);
		return;
	}
	struct replicator_change to = {.type = (enum replicator_change_type)from.type,
				       .id = from.id,
				       .stay_learner = (from.flags & KV_CHANGE_STAY_LEARNER) != 0,
				       .peer = from.peer,
				       .client = from.client,
				       .if_index = from.if_index};
	int r = replicator_change(server->replicator, &to, &index);
	if (r == 0)
		clients_answer_plain(&server->clients, client, item->id, KV_ANSWER_OK, index, false);
	else if (r == REPLICATOR_E_NOT_LEADER)
		clients_answer_plain(&server->clients, client, item->id, KV_ANSWER_NOT_LEADER, server->status.leader,
				     false);
	else
		refuse(server, client, item->id, refusal(r));
}

static void take_bootstrap(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	int r = replicator_bootstrap(server->replicator);
	if (r == 0)
		clients_answer_plain(&server->clients, client, item->id, KV_ANSWER_OK, 0, false);
	else
		refuse(server, client, item->id,
		       r == REPLICATOR_E_MEMBERSHIP ? "this member belongs to a cluster already" : refusal(r));
}

static void take_snapshot(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	int r = replicator_snapshot(server->replicator);
	if (r == 0)
		clients_answer_plain(&server->clients, client, item->id, KV_ANSWER_OK, 0, false);
	else
		refuse(server, client, item->id, refusal(r));
}

static void answer_beats(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	struct replicator_beat beats[KV_BEATS_MAX];
	struct replicator_metrics metrics;
	const struct replicator_status *status = &server->status;
	uint64_t after;
	if (!kv_beats_request_decode(item->body, item->size, &after)) {
		clients_answer_plain(&server->clients, client, item->id, KV_ANSWER_BAD_REQUEST, 0, false);
		return;
	}
	replicator_get_metrics(server->replicator, &metrics, sizeof metrics);
	struct kv_beats answer = {.id = status->id,
				  .role = status->role,
				  .term = status->term,
				  .leader = status->leader,
				  .heartbeat_us = (uint64_t)server->config->heartbeat_ms * 1000u,
				  .voters = metrics.n_voters,
				  .newest = metrics.beat};
	answers_beats(beats, replicator_get_beats(server->replicator, after, beats, KV_BEATS_MAX), &answer);
	uint8_t *data = clients_answer_data(&server->clients, client, item->id, (uint32_t)kv_beats_size(&answer));
	if (data != NULL)
		kv_beats_encode(data, &answer);
}

static void take_reload(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	struct server_text text;
	bool done = server_reload(server, &text);
	struct kv_answer_body answer = {.answer = done ? KV_ANSWER_OK : KV_ANSWER_REFUSED,
					.term = server->status.term,
					.data = (const uint8_t *)text.text,
					.size = (uint32_t)strlen(text.text)};
	clients_answer(&server->clients, client, item->id, &answer, false);
}

bool server_take_admin(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	switch (item->type) {
	case KV_REQUEST_MEMBERS:
		answer_members(server, client, item->id);
		return true;
	case KV_REQUEST_CHANGE:
		take_change(server, client, item);
		return true;
	case KV_REQUEST_BOOTSTRAP:
		take_bootstrap(server, client, item);
		return true;
	case KV_REQUEST_BEATS:
		answer_beats(server, client, item);
		return true;
	case KV_REQUEST_SNAPSHOT:
		take_snapshot(server, client, item);
		return true;
	case KV_REQUEST_RELOAD:
		take_reload(server, client, item);
		return true;
	default:
		return false;
	}
}
