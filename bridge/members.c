/* See members.h. */
#include "bridge/members.h"

#include "bridge/request.h"
#include "daemon/assert.h"
#include "daemon/service/service.h"
#include "kv/admin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Frames in ZeroMQ's queue for one member; what is on its way is bounded by the window and the table of reads. */
#define SEND_QUEUE_FRAMES 4096
#define RECEIVE_QUEUE_FRAMES 4096
#define RECEIVE_FRAMES_PER_TURN 64u

#define PROBE_MS_MIN 5u
#define PROBE_MS_MAX 50u	  /* when somebody waits */
#define PROBE_IDLE_MS_MAX 1000u	  /* when nobody does */
#define PROBES_UNANSWERED_MAX 3u  /* a stopped member's queue does not fill with questions */
#define PROBE_UNANSWERED_MS 1000u /* but one is sent after this time in any case */
#define MEMBERSHIP_MS 500u	  /* the membership is asked for this often at most */
#define PROBE_MEMBERSHIP 1u	  /* in the id of a question: the membership is meant, not the leader */
#define LOWER_TERM_MS 1000u	  /* a claim from a lower term is believed after so long without any leader */

struct member {
	uint64_t id; /* 0: the number is free */
	char endpoint[KV_ENDPOINT_MAX + 1];
	struct zmq_socket *socket;
	struct kv_frame frame;
	uint64_t sent_ms; /* when the first frame since the last receipt was sent; 0: none was */
	uint64_t probed_ms;
	unsigned probes_unanswered;
	bool up;
	bool woken;
};

struct members {
	struct members_events events;
	struct zmq_context *context; /* not owned */
	uint64_t cluster;
	uint64_t membership_index; /* of the one that is followed; 0: the file's */
	uint64_t membership_asked_ms;
	bool membership_wanted;
	bool has_heard; /* of a membership, which is to be followed at the end of members_receive */
	struct kv_membership heard;
	uint64_t silence_ms;
	int leader;
	uint64_t leader_term;
	uint64_t generation;
	uint64_t leaderless_ms; /* since when no leader is known */
	uint64_t round_ms;	/* when all were asked last */
	uint64_t pace_ms;	/* from then to the next time */
	uint64_t bad_frames;
	unsigned n;
	struct member members[RAFT_MEMBERS_MAX];
};

/* Life ------------------------------------------------------------------------------------------------- */

static struct member *find_slot(struct members *members)
{
	for (unsigned k = 0; k < members->n; k++)
		if (members->members[k].id == 0)
			return &members->members[k];
	return members->n < RAFT_MEMBERS_MAX ? &members->members[members->n++] : NULL;
}

static void close_member(struct members *members, struct member *member)
{
	members->events.closing(members->events.arg, (unsigned)(member - members->members));
	zmq_socket_free(member->socket);
	kv_frame_free(&member->frame);
	*member = (struct member){0};
}

static int open_member(struct members *members, uint64_t id, const char *endpoint)
{
	static const struct zmq_socket_options options = {
		.kind = ZMQ_SOCKET_DEALER,
		.send_queue_frames = SEND_QUEUE_FRAMES,
		.receive_queue_frames = RECEIVE_QUEUE_FRAMES,
		.frame_size_max = KV_FRAME_SIZE_MAX,
		.immediate = true,
		.monitor = true,
	};
	struct zmq_socket *socket;
	struct member *member = find_slot(members);
	size_t len = strlen(endpoint);
	if (member == NULL)
		return -E2BIG;
	raft_assert(len <= KV_ENDPOINT_MAX);
	int r = zmq_socket_open(members->context, &options, endpoint, &socket);
	if (r < 0)
		return r;
	*member = (struct member){.id = id, .socket = socket, .woken = true};
	memcpy(member->endpoint, endpoint, len + 1);
	if (members->events.opened(members->events.arg, (unsigned)(member - members->members), zmq_socket_fd(socket),
				   zmq_socket_monitor_fd(socket)))
		return 0;
	close_member(members, member);
	return -ENOMEM;
}

int members_new(const struct config *config, struct zmq_context *context, const struct members_events *events,
		struct members **ret_members)
{
	_Static_assert(CONFIG_ENDPOINT_MAX <= KV_ENDPOINT_MAX, "the file's endpoints fit");
	struct members *members = calloc(1, sizeof *members);
	if (members == NULL)
		return -ENOMEM;
	raft_assert(config->n_members >= 1 && config->n_members <= RAFT_MEMBERS_MAX);
	members->events = *events;
	members->context = context;
	members->cluster = kv_cluster_id(config->cluster_name);
	members->silence_ms = config->election_timeout_max_ms;
	members->leader = MEMBERS_NONE;
	members->pace_ms = PROBE_MS_MIN;
	for (unsigned k = 0; k < config->n_members; k++) {
		int r = open_member(members, config->members[k].id, config->members[k].client);
		if (r < 0) {
			members_free(members);
			return r;
		}
	}
	*ret_members = members;
	return 0;
}

struct members *members_free(struct members *members)
{
	for (unsigned k = 0; members != NULL && k < members->n; k++)
		if (members->members[k].id != 0)
			close_member(members, &members->members[k]);
	free(members);
	return NULL;
}

unsigned members_count(const struct members *members)
{
	return members->n;
}

static struct member *get_member(struct members *members, unsigned member)
{
	raft_assert(member < members->n);
	return &members->members[member];
}

static const struct member *look_at_member(const struct members *members, unsigned member)
{
	raft_assert(member < members->n);
	return &members->members[member];
}

uint64_t members_id(const struct members *members, unsigned member)
{
	return look_at_member(members, member)->id;
}

bool members_is_up(const struct members *members, unsigned member)
{
	return look_at_member(members, member)->up;
}

bool members_is_silent(const struct members *members, unsigned member, uint64_t now_ms)
{
	uint64_t sent_ms = look_at_member(members, member)->sent_ms;
	return sent_ms != 0 && now_ms >= sent_ms + members->silence_ms;
}

void members_wake(struct members *members, unsigned member)
{
	get_member(members, member)->woken = look_at_member(members, member)->id != 0;
}

uint64_t members_silence_ms(const struct members *members)
{
	return members->silence_ms;
}

/* Who leads -------------------------------------------------------------------------------------------- */

int members_leader(const struct members *members, uint64_t now_ms)
{
	if (members->leader == MEMBERS_NONE || members_is_silent(members, (unsigned)members->leader, now_ms))
		return MEMBERS_NONE;
	raft_assert(members->members[members->leader].up);
	return members->leader;
}

uint64_t members_leader_id(const struct members *members)
{
	return members->leader == MEMBERS_NONE ? 0 : members->members[members->leader].id;
}

uint64_t members_generation(const struct members *members)
{
	return members->generation;
}

int members_any(const struct members *members, uint64_t now_ms)
{
	int best = members_leader(members, now_ms);
	for (unsigned k = 0; k < members->n && best == MEMBERS_NONE; k++)
		if (members->members[k].up && !members_is_silent(members, k, now_ms))
			best = (int)k;
	for (unsigned k = 0; k < members->n && best == MEMBERS_NONE; k++)
		if (members->members[k].up)
			best = (int)k;
	return best;
}

/* The next round of questions comes soon after the last one. */
static void hurry(struct members *members)
{
	members->pace_ms = PROBE_MS_MIN;
}

static uint64_t round_due_ms(const struct members *members)
{
	return members->round_ms + members->pace_ms;
}

static void forget_leader(struct members *members, uint64_t now_ms)
{
	if (members->leader == MEMBERS_NONE)
		return;
	members->leader = MEMBERS_NONE;
	members->leaderless_ms = now_ms;
	hurry(members);
}

static void adopt_leader(struct members *members, unsigned member, uint64_t term, uint64_t now_ms)
{
	const struct member *leader = get_member(members, member);
	struct service_fields fields = {.term = term, .leader = leader->id, .peer = leader->id};
	raft_assert(leader->up);
	members->leader = (int)member;
	members->leader_term = term;
	members->generation++;
	members->membership_wanted = true;
	hurry(members);
	service_log_fields(6, "leader-found", &fields, "member %llu leads in term %llu%s",
			   (unsigned long long)leader->id, (unsigned long long)term,
			   members->leaderless_ms != 0 && now_ms > members->leaderless_ms ? ", requests go on" : "");
}

void members_deny(struct members *members, unsigned member, uint64_t now_ms)
{
	if (members->leader == (int)member)
		forget_leader(members, now_ms);
}

static void take_claim(struct members *members, unsigned member, uint64_t term, uint64_t now_ms)
{
	if (members->leader == (int)member) {
		members->leader_term = term > members->leader_term ? term : members->leader_term;
		return;
	}
	if (!get_member(members, member)->up)
		return;
	bool newer = term > members->leader_term;
	/* A leader that was paused claims to lead in an old term; but a cluster may also have been made anew. */
	bool believable = term == members->leader_term || now_ms >= members->leaderless_ms + LOWER_TERM_MS;
	if (newer || (members->leader == MEMBERS_NONE && believable))
		adopt_leader(members, member, term, now_ms);
}

static void take_probe_answer(struct members *members, unsigned member, const struct kv_frame_item *item,
			      uint64_t now_ms)
{
	struct kv_answer_body answer;
	get_member(members, member)->probes_unanswered = 0;
	if (!kv_reply_decode(item->body, item->size, &answer))
		return;
	if (answer.answer == KV_ANSWER_OK)
		take_claim(members, member, answer.term, now_ms);
	else if (answer.answer == KV_ANSWER_NOT_LEADER)
		members_deny(members, member, now_ms);
}

/* Who belongs to the cluster --------------------------------------------------------------------------- */

static void drop_member(struct members *members, unsigned k, uint64_t now_ms)
{
	struct member *member = get_member(members, k);
	bool was_up = member->up;
	member->up = false;
	members_deny(members, k, now_ms);
	if (was_up)
		members->events.lost(members->events.arg, k);
	service_log(6, "member-left", "member %llu left the cluster, or moved", (unsigned long long)member->id);
	close_member(members, member);
}

static const struct kv_member *find_in(const struct kv_membership *membership, uint64_t id)
{
	for (uint32_t k = 0; k < membership->count; k++)
		if (membership->members[k].id == id)
			return &membership->members[k];
	return NULL;
}

static bool is_open(const struct members *members, uint64_t id)
{
	for (unsigned k = 0; k < members->n; k++)
		if (members->members[k].id == id)
			return true;
	return false;
}

/* Follows a committed membership that is newer than the one known. */
static void follow_membership(struct members *members, const struct kv_membership *membership, uint64_t now_ms)
{
	if (!membership->committed || membership->count == 0 || membership->index <= members->membership_index)
		return;
	members->membership_index = membership->index;
	for (unsigned k = 0; k < members->n; k++) {
		struct member *member = &members->members[k];
		const struct kv_member *now = find_in(membership, member->id);
		bool moved = now != NULL && now->client[0] != '\0' && strcmp(now->client, member->endpoint) != 0;
		if (member->id != 0 && (now == NULL || moved))
			drop_member(members, k, now_ms);
	}
	for (uint32_t k = 0; k < membership->count; k++) {
		const struct kv_member *member = &membership->members[k];
		if (is_open(members, member->id) || member->client[0] == '\0')
			continue;
		int r = open_member(members, member->id, member->client);
		if (r < 0)
			service_log(3, "member-unreachable", "cannot connect to member %llu at %s: %s",
				    (unsigned long long)member->id, member->client, strerror(-r));
		else
			service_log(6, "member-joined", "member %llu belongs to the cluster",
				    (unsigned long long)member->id);
	}
}

/* Only noted: the connection that it came over may be one that is to be closed. */
static void take_membership(struct members *members, const struct kv_frame_item *item)
{
	struct kv_answer_body answer;
	if (kv_reply_decode(item->body, item->size, &answer) && answer.answer == KV_ANSWER_OK &&
	    kv_membership_decode(answer.data, answer.size, &members->heard))
		members->has_heard = true;
}

/* Asks the leader, or when there is none everybody: whoever leads may be one that is not known here. */
static void ask_membership(struct members *members, uint64_t now_ms)
{
	if (!members->membership_wanted || now_ms < members->membership_asked_ms + MEMBERSHIP_MS)
		return;
	members->membership_asked_ms = now_ms;
	members->membership_wanted = members->leader == MEMBERS_NONE;
	for (unsigned k = 0; k < members->n; k++) {
		struct member *member = get_member(members, k);
		if (!member->up || (members->leader != MEMBERS_NONE && members->leader != (int)k))
			continue;
		if (members_add(members, k, request_id(ID_PROBE, PROBE_MEMBERSHIP), KV_REQUEST_MEMBERS, 0) != NULL &&
		    members_send(members, k, now_ms) < 0)
			members->membership_wanted = true;
	}
}

static void probe(struct members *members, unsigned k, uint64_t now_ms)
{
	struct member *member = get_member(members, k);
	if (member->id == 0)
		return;
	if (member->probes_unanswered >= PROBES_UNANSWERED_MAX && now_ms < member->probed_ms + PROBE_UNANSWERED_MS)
		return;
	raft_assert(member->frame.n_items == 0);
	if (members_add(members, k, request_id(ID_PROBE, 0), KV_REQUEST_LEADER, 0) == NULL)
		return;
	member->probed_ms = now_ms;
	if (members_send(members, k, now_ms) == 0)
		member->probes_unanswered++;
}

void members_poke(struct members *members, unsigned k, uint64_t now_ms)
{
	if (now_ms >= get_member(members, k)->probed_ms + members->silence_ms / 2)
		probe(members, k, now_ms);
}

void members_tick(struct members *members, uint64_t now_ms, bool wanted)
{
	uint64_t pace_max = wanted ? PROBE_MS_MAX : PROBE_IDLE_MS_MAX;
	ask_membership(members, now_ms);
	if (members_leader(members, now_ms) != MEMBERS_NONE)
		return;
	if (members->pace_ms > pace_max)
		hurry(members); /* somebody has begun to wait */
	if (now_ms < round_due_ms(members))
		return;
	for (unsigned k = 0; k < members->n; k++)
		probe(members, k, now_ms);
	members->round_ms = now_ms;
	members->pace_ms = members->pace_ms * 2 < pace_max ? members->pace_ms * 2 : pace_max;
}

uint64_t members_due_ms(const struct members *members, uint64_t now_ms, bool wanted)
{
	if (members->leader == MEMBERS_NONE || members_is_silent(members, (unsigned)members->leader, now_ms))
		return round_due_ms(members);
	uint64_t sent_ms = members->members[members->leader].sent_ms;
	uint64_t due_ms = members->membership_wanted ? members->membership_asked_ms + MEMBERSHIP_MS : UINT64_MAX;
	if (wanted && sent_ms != 0 && sent_ms + members->silence_ms < due_ms)
		due_ms = sent_ms + members->silence_ms;
	return due_ms;
}

/* Frames ----------------------------------------------------------------------------------------------- */

uint8_t *members_add(struct members *members, unsigned k, uint64_t id, uint8_t type, uint32_t size)
{
	struct member *member = get_member(members, k);
	if (member->frame.n_items == 0)
		kv_frame_begin(&member->frame);
	return kv_frame_add(&member->frame, id, type, size);
}

int members_send(struct members *members, unsigned k, uint64_t now_ms)
{
	struct member *member = get_member(members, k);
	if (member->frame.n_items == 0)
		return 0;
	/* Also when it is not connected: then the socket may try to connect anew, see zmq_socket.c. */
	kv_frame_finish(&member->frame, KV_FRAME_REQUESTS, members->cluster);
	int r = zmq_socket_send(member->socket, &(struct zmq_identity){0}, member->frame.buf, member->frame.len);
	member->woken = true; /* any use may have taken the descriptor's signal */
	kv_frame_begin(&member->frame);
	if (r == 0 && member->sent_ms == 0)
		member->sent_ms = now_ms;
	raft_assert(member->frame.n_items == 0);
	return r;
}

static void take_frame(struct members *members, unsigned k, const uint8_t *data, size_t len, uint64_t now_ms)
{
	struct kv_frame_reader reader;
	struct kv_frame_item item;
	int r = kv_frame_read(data, len, KV_FRAME_REPLIES, members->cluster, &reader);
	if (r != KV_FRAME_OK) {
		members->bad_frames++;
		service_log_fields(4, "bad-reply-frame", &(struct service_fields){.peer = get_member(members, k)->id},
				   "dropped a frame of %zu bytes from member %llu: %s; check that both are of the same "
				   "cluster and version",
				   len, (unsigned long long)get_member(members, k)->id, kv_frame_result_name(r));
		return;
	}
	get_member(members, k)->sent_ms = 0;
	while (kv_frame_next(&reader, &item)) {
		if (item.id == request_id(ID_PROBE, PROBE_MEMBERSHIP))
			take_membership(members, &item);
		else if (request_id_type(item.id) == ID_PROBE)
			take_probe_answer(members, k, &item, now_ms);
		else
			members->events.reply(members->events.arg, k, &item);
	}
}

static void take_link_events(struct members *members, unsigned k, uint64_t now_ms)
{
	struct member *member = get_member(members, k);
	struct service_fields fields = {.peer = member->id};
	for (;;) {
		switch (zmq_socket_link_event(member->socket)) {
		case ZMQ_LINK_NONE:
			return;
		case ZMQ_LINK_UP:
			member->up = true;
			member->sent_ms = 0;
			members->membership_wanted = true;
			if (members->leader == MEMBERS_NONE)
				hurry(members);
			service_log_fields(7, "member-connected", &fields, "connected to member %llu",
					   (unsigned long long)member->id);
			break;
		case ZMQ_LINK_DOWN:
			if (!member->up)
				break;
			member->up = false;
			member->sent_ms = 0;
			member->probes_unanswered = 0;
			members->membership_wanted = true;
			service_log_fields(7, "member-disconnected", &fields, "lost the connection to member %llu",
					   (unsigned long long)member->id);
			members_deny(members, k, now_ms);
			members->events.lost(members->events.arg, k);
			break;
		}
	}
}

static void receive_from(struct members *members, unsigned k, uint64_t now_ms)
{
	struct member *member = get_member(members, k);
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	/* Answers first: a member that answered and then died has answered. */
	for (unsigned n = 0; n < RECEIVE_FRAMES_PER_TURN; n++) {
		int r = zmq_socket_receive(member->socket, &from, &data, &len);
		if (r < 0)
			service_log(3, "member-socket-failed", "receiving from member %llu failed (%d)",
				    (unsigned long long)member->id, r);
		if (r != 1)
			break;
		take_frame(members, k, data, len, now_ms);
	}
	take_link_events(members, k, now_ms);
}

void members_receive(struct members *members, uint64_t now_ms)
{
	for (unsigned k = 0; k < members->n; k++)
		if (members->members[k].woken)
			receive_from(members, k, now_ms);
	if (members->has_heard)
		follow_membership(members, &members->heard, now_ms);
	members->has_heard = false;
}

bool members_pending(struct members *members)
{
	bool pending = false;
	for (unsigned k = 0; k < members->n; k++) {
		struct member *member = get_member(members, k);
		if (!member->woken)
			continue;
		member->woken = zmq_socket_pending(member->socket);
		pending = pending || member->woken;
	}
	return pending;
}
