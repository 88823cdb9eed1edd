/* See status.h. */
#include "bridge/status.h"

#include "daemon/assert.h"

#include <stdio.h>
#include <string.h>

static void begin_round(struct status *status, struct members *members, uint64_t now_ms)
{
	status->running = true;
	status->round++;
	status->deadline_ms = now_ms + STATUS_WAIT_MS;
	memset(status->answered, 0, sizeof status->answered);
	for (unsigned k = 0; k < members_count(members); k++) {
		if (members_id(members, k) == 0)
			continue;
		if (members_add(members, k, request_id(ID_STATUS, status->round), KV_REQUEST_STATUS, 0) == NULL)
			continue;
		/* Not sent: the member is shown as unreachable, or silent. */
		if (members_send(members, k, now_ms) < 0)
			continue;
	}
}

void status_add(struct status *status, struct members *members, struct request *request, uint64_t now_ms)
{
	if (!status->running)
		begin_round(status, members, now_ms);
	raft_assert(request->newer == NULL && status->running);
	request->newer = status->waiting;
	status->waiting = request;
}

void status_take(struct status *status, unsigned member, uint64_t round, const struct kv_answer_body *answer)
{
	raft_assert(member < RAFT_MEMBERS_MAX);
	if (!status->running || round != status->round || answer->answer != KV_ANSWER_OK)
		return;
	if (kv_status_decode(answer->data, answer->size, &status->members[member]))
		status->answered[member] = true;
}

bool status_is_complete(const struct status *status, const struct members *members, uint64_t now_ms)
{
	if (!status->running)
		return false;
	for (unsigned k = 0; k < members_count(members); k++)
		if (members_is_up(members, k) && !status->answered[k])
			return now_ms >= status->deadline_ms;
	return true;
}

static const char *role_name(uint64_t role)
{
	static const char *const names[] = {"follower", "pre-candidate", "candidate", "leader", "learner"};
	return role < sizeof names / sizeof names[0] ? names[role] : "role-unknown";
}

static int write_member(const struct kv_member_status *s, char *text, size_t size)
{
	return snprintf(text, size,
			"member %llu %s term %llu leader %llu commit %llu applied %llu last %llu keys %llu "
			"state_hash %016llx store_bytes %llu rss_bytes %llu pid %llu uptime_ms %llu\n",
			(unsigned long long)s->id, role_name(s->role), (unsigned long long)s->term,
			(unsigned long long)s->leader, (unsigned long long)s->commit, (unsigned long long)s->applied,
			(unsigned long long)s->last, (unsigned long long)s->keys, (unsigned long long)s->state_hash,
			(unsigned long long)s->store_bytes, (unsigned long long)s->rss_bytes,
			(unsigned long long)s->pid, (unsigned long long)s->uptime_ms);
}

size_t status_write(const struct status *status, const struct members *members, char text[STATUS_TEXT_MAX])
{
	size_t len = 0;
	for (unsigned k = 0; k < members_count(members); k++) {
		if (members_id(members, k) == 0)
			continue;
		int n = status->answered[k] ? write_member(&status->members[k], text + len, STATUS_TEXT_MAX - len)
					    : snprintf(text + len, STATUS_TEXT_MAX - len, "member %llu %s\n",
						       (unsigned long long)members_id(members, k),
						       members_is_up(members, k) ? "silent" : "unreachable");
		raft_assert(n > 0 && (size_t)n < STATUS_TEXT_MAX - len);
		len += (size_t)n;
	}
	raft_assert(STATUS_TEXT_MAX - len > 3);
	memcpy(text + len, "OK\n", 3);
	return len + 3;
}

struct request *status_next(struct status *status)
{
	struct request *request = status->waiting;
	if (request == NULL) {
		status->running = false;
		return NULL;
	}
	status->waiting = request->newer;
	request->newer = NULL;
	return request;
}

uint64_t status_due_ms(const struct status *status)
{
	return status->running ? status->deadline_ms : UINT64_MAX;
}
