/* Every event becomes part of the history's hash, a frame with its bytes; as text only when somebody reads along. */
#include "sim.h"

#include "daemon/assert.h"
#include "daemon/transport/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void describe_frame(const struct sim_event *event, char *text, size_t size)
{
	struct raft_entry *entries = calloc(WIRE_ENTRIES_MAX, sizeof *entries);
	struct wire_message m;
	raft_assert(entries != NULL);
	int r = wire_decode(event->data, event->len, entries, WIRE_ENTRIES_MAX, &m);
	free(entries); /* what is said of an append does not look into them */
	if (r != WIRE_OK) {
		(void)snprintf(text, size, "unreadable: %s", wire_result_name(r));
		return;
	}
	int n = snprintf(text, size, "term %" PRIu64 " ", m.term);
	text += n;
	size -= (size_t)n;
	switch ((enum wire_type)m.type) {
	case WIRE_VOTE_REQUEST:
		(void)snprintf(text, size, "vote request%s%s, last entry %" PRIu64 " of term %" PRIu64,
			       m.vote_request.pre_vote ? ", pre-vote" : "", m.vote_request.transfer ? ", transfer" : "",
			       m.vote_request.last_index, m.vote_request.last_term);
		return;
	case WIRE_VOTE_REPLY:
		(void)snprintf(text, size, "vote %s%s for term %" PRIu64, m.vote_reply.granted ? "granted" : "refused",
			       m.vote_reply.pre_vote ? ", pre-vote" : "", m.vote_reply.request_term);
		return;
	case WIRE_APPEND:
		(void)snprintf(
			text, size,
			"append %u entries after %" PRIu64 " of term %" PRIu64 ", commit %" PRIu64 ", round %" PRIu64,
			m.append.n_entries, m.append.prev_index, m.append.prev_term, m.append.commit, m.append.round);
		return;
	case WIRE_APPEND_REPLY:
		if (m.append_reply.rejected)
			(void)snprintf(text, size,
				       "append rejected after %" PRIu64 ", conflict %" PRIu64 " of term %" PRIu64
				       ", round %" PRIu64,
				       m.append_reply.prev_index, m.append_reply.conflict_index,
				       m.append_reply.conflict_term, m.append_reply.round);
		else
			(void)snprintf(text, size, "append accepted, match %" PRIu64 ", round %" PRIu64,
				       m.append_reply.match, m.append_reply.round);
		return;
	case WIRE_TIMEOUT_NOW:
		(void)snprintf(text, size, "timeout now");
		return;
	case WIRE_HELLO:
		(void)snprintf(text, size, "hello%s", m.hello.blank ? ", blank" : "");
		return;
	case WIRE_SNAPSHOT_OFFER:
		(void)snprintf(text, size, "snapshot offer, entry %" PRIu64 " of term %" PRIu64 ", %" PRIu64 " bytes",
			       m.snapshot_offer.index, m.snapshot_offer.term, m.snapshot_offer.size);
		return;
	case WIRE_SNAPSHOT_REQUEST:
		(void)snprintf(text, size, "snapshot request, entry %" PRIu64 ", %u bytes at %" PRIu64,
			       m.snapshot_request.index, m.snapshot_request.size, m.snapshot_request.offset);
		return;
	case WIRE_SNAPSHOT_CHUNK:
		(void)snprintf(text, size, "snapshot chunk, entry %" PRIu64 ", %u of %" PRIu64 " bytes at %" PRIu64,
			       m.snapshot_chunk.index, m.snapshot_chunk.size, m.snapshot_chunk.total,
			       m.snapshot_chunk.offset);
		return;
	case WIRE_NOT_A_MEMBER:
		(void)snprintf(text, size, "not a member since entry %" PRIu64, m.not_a_member.config_index);
		return;
	case WIRE_ENDPOINT:
		(void)snprintf(text, size, "endpoint %s", m.endpoint.peer);
		return;
	case WIRE_CHECKPOINT:
		(void)snprintf(text, size, "checkpoint, entry %" PRIu64 ", hash %016" PRIx64 "%s", m.checkpoint.index,
			       m.checkpoint.hash,
			       m.checkpoint.majority    ? ", of most"
			       : m.checkpoint.undecided ? ", of some"
							: "");
		return;
	}
}

static void print_event(const struct sim *sim, const struct sim_event *event)
{
	char text[256];
	unsigned number = event->member;
	(void)printf("%" PRIu64 "   ", sim->now_us);
	switch (event->type) {
	case SIM_FRAME:
		describe_frame(event, text, sizeof text);
		(void)printf("%u <- %" PRIu64 " %s\n", number + 1, event->number + 1, text);
		return;
	case SIM_LINK:
		(void)printf("%u link to %" PRIu64 " %s\n", number + 1, event->number,
			     event->flag ? "opens" : "closes");
		return;
	case SIM_DISK:
		(void)printf("%u disk job %" PRIu64 " of life %u\n", number + 1, event->number, event->life);
		return;
	case SIM_WAKE:
		(void)printf("%u deadline\n", number + 1);
		return;
	case SIM_CLIENT:
		(void)printf("client %u acts after attempt %" PRIu64 "\n", number, event->number);
		return;
	case SIM_ANSWER:
		(void)printf("client %u is answered\n", number);
		return;
	case SIM_FAULT:
		(void)printf("fault goes on: %" PRIu64 ", member %u\n", event->number, number + 1);
		return;
	}
}

void sim_trace_event(struct sim *sim, const struct sim_event *event)
{
	const uint64_t fixed[] = {event->time_us, (uint64_t)event->type << 32 | event->member, event->number,
				  (uint64_t)event->life << 1 | event->flag, event->len};
	(void)XXH3_64bits_update(sim->history, fixed, sizeof fixed);
	if (event->type == SIM_FRAME) /* other data may contain padding */
		(void)XXH3_64bits_update(sim->history, event->data, event->len);
	if (sim->trace)
		print_event(sim, event);
}
